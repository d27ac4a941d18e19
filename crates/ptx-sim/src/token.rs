//! Words and signs of a text, with their lines.

use crate::error::Error;

/// A word or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// Letters, digits, `_`, `$`, `%`, `.` and `::`: mnemonics with their modifiers, names, numbers.
    Word(&'a str),
    /// One of `, ; { } [ ] ( ) < > + - ! | = @ :`.
    Sign(char),
    /// A text in quotes.
    Quoted,
}

/// Tokens with the line they stand on.
pub(crate) fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>, Error> {
    let bytes = text.as_bytes();
    let (mut out, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            b'/' if rest.starts_with("//") => at += rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => {
                let end = rest
                    .find("*/")
                    .ok_or_else(|| Error::Text { line, what: "a comment without end".into() })?;
                line += rest[..end].matches('\n').count();
                at += end + 2;
            }
            b'"' => {
                let end = rest[1..]
                    .find('"')
                    .ok_or_else(|| Error::Text { line, what: "a quotation without end".into() })?;
                out.push((line, Token::Quoted));
                at += end + 2;
            }
            byte if in_word(byte) => {
                let length = word_length(rest);
                out.push((line, Token::Word(&rest[..length])));
                at += length;
            }
            byte if b",;{}[]()<>+-!|=@:".contains(&byte) => {
                out.push((line, Token::Sign(char::from(byte))));
                at += 1;
            }
            _ => {
                let sign = rest.chars().next().unwrap_or_default();
                return Err(Error::Text {
                    line,
                    what: format!("a sign that PTX has not: {sign:?}"),
                });
            }
        }
    }
    Ok(out)
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_$%.".contains(&byte)
}

fn word_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut length = 0;
    while length < bytes.len() {
        if in_word(bytes[length]) {
            length += 1;
        } else if text[length..].starts_with("::") {
            length += 2;
        } else {
            break;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_lines_stay() {
        let text = "add.s32 %r1, /* two\nlines */ 3; // end\n$L: ld.global.L1::no_allocate.f32";
        let found = tokens(text).unwrap();
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 1, 1, 2, 2, 3, 3, 3]);
        assert_eq!(found[7].1, Token::Word("ld.global.L1::no_allocate.f32"));
        assert!(tokens("/* no end").is_err() && tokens("a # b").is_err());
    }
}
