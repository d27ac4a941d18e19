//! What the kernels' tests share.

use gpz_kernels::Kernel;
use ptx_sim::Work;

/// A case of a kernel's test: runs a text with a seed and compares what comes of it with the reference.
pub(crate) type Check<'a> = &'a dyn Fn(&str, u64) -> Result<Work, String>;

/// Asserts that no instruction, guard or number of a kernel can be wrong unnoticed: of each mutant some case fails, by a fault, by its
/// values or by more work. A loop that is left early costs no value but time, so that more instructions count as a loss too.
pub(crate) fn assert_no_mutant_survives(kernel: &Kernel, cases: &[Check<'_>]) {
    let works: Vec<u64> = cases
        .iter()
        .map(|check| check(kernel.text, 0).expect("the text itself is right").instructions)
        .collect();
    let survives = |text: &str| {
        cases.iter().zip(&works).enumerate().all(|(at, (check, most))| {
            check(text, at as u64).is_ok_and(|work| work.instructions <= *most)
        })
    };
    assert!(survives(kernel.text), "{}: seeds change its work", kernel.entry);
    let survivors: Vec<String> = mutants(kernel.text)
        .into_iter()
        .filter(|mutant| survives(&mutant.text))
        .map(|mutant| mutant.what)
        .collect();
    assert!(survivors.is_empty(), "{}: survived:\n{}", kernel.entry, survivors.join("\n"));
}

/// A text with one thing wrong, and what.
struct Mutant {
    /// What was done, and where.
    what: String,
    /// The text.
    text: String,
}

/// Every text with one instruction less, with one guard less, and with one number of an instruction one larger.
fn mutants(text: &str) -> Vec<Mutant> {
    let lines: Vec<&str> = text.lines().collect();
    let mut mutants = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default().trim();
        if code.starts_with('.') || !code.ends_with(';') || code == "ret;" {
            continue;
        }
        let mut add = |what: &str, new: &str| {
            let mut changed = lines.clone();
            changed[at] = new;
            mutants.push(Mutant {
                what: format!("line {}, {what}: {code}", at + 1),
                text: changed.join("\n"),
            });
        };
        add("removed", "");
        if let Some((_, rest)) = code.strip_prefix('@').and_then(|code| code.split_once(' ')) {
            add("without its guard", rest);
        }
        // Any of the sixteen barriers is as good as another.
        let places = if code.starts_with("bar.sync") { Vec::new() } else { numbers(code) };
        for (from, to) in places {
            let larger = code[from..to].parse::<u64>().map_or(0, |number| number + 1);
            add("with a larger number", &format!("{}{larger}{}", &code[..from], &code[to..]));
        }
    }
    mutants
}

/// Where decimal numbers stand that are no part of a word.
fn numbers(code: &str) -> Vec<(usize, usize)> {
    let bytes = code.as_bytes();
    let in_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.%$:".contains(&byte);
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let from = at;
        while at < bytes.len() && in_word(bytes[at]) {
            at += 1;
        }
        if at > from && bytes[from..at].iter().all(u8::is_ascii_digit) {
            found.push((from, at));
        }
        at = at.max(from + 1);
    }
    found
}
