//! Numbers that something is built by, as they are written after a name: `width=16,depth=2`.

/// A number that a model or a decoder is built by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub key: &'static str,
    /// Its value unless one is given.
    pub default: usize,
    /// Its possible values.
    pub allowed: Allowed,
    /// What it means.
    pub what: &'static str,
}

/// Possible values of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// From the first to the second, both included.
    Range(usize, usize),
    /// One of these.
    OneOf(&'static [usize]),
}

impl Parameter {
    fn admits(&self, value: usize) -> bool {
        match self.allowed {
            Allowed::Range(least, most) => (least..=most).contains(&value),
            Allowed::OneOf(values) => values.contains(&value),
        }
    }

    fn rule(&self) -> String {
        let values = match self.allowed {
            Allowed::Range(least, most) => format!("{least} to {most}"),
            Allowed::OneOf(values) => {
                values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
            }
        };
        format!("{}, {values}", self.what)
    }
}

/// Why a text gives no values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A parameter there is not.
    Unknown {
        /// Its name.
        key: String,
        /// What there is.
        known: String,
    },
    /// A parameter with an impossible value.
    Value {
        /// Its name.
        key: String,
        /// Its value.
        value: String,
        /// What is possible.
        rule: String,
    },
}

/// The values of parameters, in their order: those that `text` gives, such as `width=16,depth=2`, and otherwise the defaults.
///
/// - `name`: of what has the parameters, for messages
///
/// # Errors
/// [`Refused`] names the first parameter that is misspelt or has an impossible value.
pub fn read(name: &str, parameters: &[Parameter], text: &str) -> Result<Vec<usize>, Refused> {
    let mut values: Vec<usize> = parameters.iter().map(|parameter| parameter.default).collect();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(at) = parameters.iter().position(|parameter| parameter.key == key) else {
            let known = if parameters.is_empty() {
                "none".to_owned()
            } else {
                let keys: Vec<&str> = parameters.iter().map(|p| p.key).collect();
                format!("{}, such as {name}:{}", keys.join(", "), defaults(parameters))
            };
            return Err(Refused::Unknown { key: key.to_owned(), known });
        };
        let parameter = &parameters[at];
        let admitted = value.parse().ok().filter(|&value| parameter.admits(value));
        values[at] = admitted.ok_or_else(|| Refused::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            rule: parameter.rule(),
        })?;
    }
    Ok(values)
}

/// Parameters with values, as [`read`] takes them.
#[must_use]
pub fn written(parameters: &[Parameter], values: &[usize]) -> String {
    let pairs = parameters.iter().zip(values).map(|(p, value)| format!("{}={value}", p.key));
    pairs.collect::<Vec<_>>().join(",")
}

/// Parameters with their defaults, as [`read`] takes them.
#[must_use]
pub fn defaults(parameters: &[Parameter]) -> String {
    written(parameters, &parameters.iter().map(|parameter| parameter.default).collect::<Vec<_>>())
}
