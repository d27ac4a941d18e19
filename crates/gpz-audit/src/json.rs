//! One way of writing JSON: pretty, keys in the order of the struct, short lists on one line, a newline at the end.

use serde::Serialize;

use crate::error::{Error, Result};

/// The JSON text of `value`; `what` names it in an error.
///
/// # Errors
/// [`Error::Json`] for values JSON cannot hold, such as maps with keys that are no strings.
pub(crate) fn to_text<T: Serialize>(value: &T, what: &'static str) -> Result<String> {
    let text =
        serde_json::to_string_pretty(value).map_err(|source| Error::Json { what, source })?;
    Ok(join_flat_lists(&text) + "\n")
}

/// Puts lists that hold no object and no list on one line: `"shape": [16, 32, 32]`.
///
/// Works on the text of serde_json's pretty printer, where a bracket outside a string always opens or closes a list.
fn join_flat_lists(pretty: &str) -> String {
    let mut out = String::with_capacity(pretty.len());
    let mut rest = pretty;
    while let Some(open) = next_outside_strings(rest, |c| c == '[') {
        let (before, list) = rest.split_at(open);
        out.push_str(before);
        let end = next_outside_strings(&list[1..], |c| matches!(c, '[' | '{' | ']')).map(|i| i + 1);
        match end {
            Some(end) if list[end..].starts_with(']') => {
                let items: Vec<&str> =
                    list[1..end].lines().map(str::trim).filter(|l| !l.is_empty()).collect();
                out.push('[');
                out.push_str(&items.join(" "));
                out.push(']');
                rest = &list[end + 1..];
            }
            _ => {
                out.push('[');
                rest = &list[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Byte index of the first character outside of a string that satisfies `wanted`. The text begins outside a string.
fn next_outside_strings(text: &str, wanted: impl Fn(char) -> bool) -> Option<usize> {
    let (mut inside, mut escaped) = (false, false);
    for (i, c) in text.char_indices() {
        if inside {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => inside = false,
                _ => {}
            }
        } else if c == '"' {
            inside = true;
        } else if wanted(c) {
            return Some(i);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn short_lists_stand_on_one_line() {
        let value =
            json!({"a": [1, 2.5], "b": [{"c": ["x [y", "\"]"]}], "d": [], "e": [[1], [2, 3]]});
        let want = concat!(
            "{\n  \"a\": [1, 2.5],\n  \"b\": [\n    {\n      \"c\": [\"x [y\", \"\\\"]\"]\n    }\n  ],\n  \"d\": [],\n",
            "  \"e\": [\n    [1],\n    [2, 3]\n  ]\n}\n"
        );
        assert_eq!(to_text(&value, "value").unwrap(), want);
    }

    proptest! {
        /// However strings look, the text still means the same.
        #[test]
        fn joining_lists_keeps_the_value(strings in prop::collection::vec("[\\[\\]{}\"\\\\ ,a\n]{0,8}", 0..5), nested: bool) {
            let list = Value::from(strings);
            let value = if nested { json!({"k]": [list.clone(), {"[": list}]}) } else { list };
            let text = to_text(&value, "value").unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
