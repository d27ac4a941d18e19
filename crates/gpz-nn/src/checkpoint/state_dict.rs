//! Where in a checkpoint the weights are: the whole of it, or a mapping under one of the names that training scripts use.

use std::collections::BTreeMap;

use super::one_line;
use super::pickle::{Id, Tree};
use super::tree::is_name;
use crate::error::{Error, Result};

/// Keys under which training scripts keep weights, the surest first.
const WRAPPERS: [&str; 17] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "backbone",
    "weights",
    "params",
    "state",
    "params_ema",
    "ema",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema_model",
];

/// Mappings around the weights.
const MAX_DEPTH: usize = 3;
/// Names that a message lists.
const LISTED: usize = 8;

/// The mapping of the weights.
pub(super) struct StateDict<'t> {
    /// Keys of the mappings around it, outermost first.
    pub(super) wrapped_in: Vec<String>,
    /// Keys beside the last of them that hold tensors as well.
    pub(super) beside: Vec<String>,
    pub(super) entries: BTreeMap<&'t str, Id>,
}

struct Search<'t, 'a> {
    tree: &'t Tree<'a>,
    /// Entries that may still be looked at: mappings that hold one another would keep the search busy for ever.
    left: usize,
}

impl<'t> Search<'t, '_> {
    /// The entries of a mapping with names, the last of a name.
    fn entries(&mut self, id: Id) -> Option<BTreeMap<&'t str, Id>> {
        let items = self.tree.mapping(id)?;
        self.left = self.left.checked_sub(items.len())?;
        let named = items.iter().filter_map(|(key, value)| {
            Some((self.tree.text(*key).filter(|key| is_name(key))?, *value))
        });
        Some(named.collect())
    }

    fn holds_tensors(&mut self, id: Id) -> bool {
        let entries = self.entries(id);
        entries.is_some_and(|entries| entries.values().any(|id| self.tree.is_tensor(*id)))
    }

    fn find(&mut self, id: Id, depth: usize) -> Option<StateDict<'t>> {
        let entries = self.entries(id)?;
        let inner = if depth == MAX_DEPTH { &[][..] } else { &WRAPPERS };
        let found = inner.iter().find_map(|name| {
            let found = self.find(*entries.get(name)?, depth + 1)?;
            Some((*name, found))
        });
        if found.is_none() && entries.values().any(|id| self.tree.is_tensor(*id)) {
            return Some(StateDict { wrapped_in: Vec::new(), beside: Vec::new(), entries });
        }
        let holding: Vec<&str> = entries
            .iter()
            .filter(|(_, id)| self.holds_tensors(**id))
            .map(|(key, _)| *key)
            .collect();
        let (name, mut found) = match (found, &holding[..]) {
            (Some(found), _) => found,
            // A name of one's own, where there is no choice.
            (None, [only]) if depth < MAX_DEPTH => (*only, self.find(entries[only], MAX_DEPTH)?),
            _ => return None,
        };
        if found.wrapped_in.is_empty() {
            let others = holding.into_iter().filter(|key| *key != name);
            found.beside = others.map(one_line).collect();
        }
        found.wrapped_in.insert(0, one_line(name));
        Some(found)
    }
}

/// Finds the weights.
///
/// # Errors
/// [`Error::NoStateDict`] says what there is instead.
pub(super) fn find<'t>(tree: &'t Tree<'_>) -> Result<StateDict<'t>> {
    let search = || Search { tree, left: 4 * tree.values.len() };
    if let Some(found) = search().find(tree.root, 0) {
        return Ok(found);
    }
    let mut search = search();
    let found = match search.entries(tree.root) {
        _ if tree.is_tensor(tree.root) => "a single tensor without a name".to_owned(),
        None => "no mapping of names to tensors".to_owned(),
        Some(entries) if entries.is_empty() => "an empty mapping".to_owned(),
        Some(entries) => {
            let holding: Vec<&str> = entries
                .iter()
                .filter(|(_, id)| search.holds_tensors(**id))
                .map(|(key, _)| *key)
                .collect();
            let (what, names) = match holding.len() {
                0 => ("a mapping without tensors; its keys are", entries.keys().copied().collect()),
                _ => ("several mappings of tensors:", holding),
            };
            let mut listed: Vec<String> =
                names.iter().take(LISTED).map(|key| one_line(key)).collect();
            if names.len() > LISTED {
                listed.push(format!("{} more", names.len() - LISTED));
            }
            format!("{what} {}", listed.join(", "))
        }
    };
    Err(Error::NoStateDict { found })
}
