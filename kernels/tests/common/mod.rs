//! What the kernels' tests share.

/// A text with one thing wrong, and what.
pub(crate) struct Mutant {
    /// What was done, and where.
    pub(crate) what: String,
    /// The text.
    pub(crate) text: String,
}

/// Every text with one instruction less, with one guard less, and with one number of an instruction one larger.
pub(crate) fn mutants(text: &str) -> Vec<Mutant> {
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
