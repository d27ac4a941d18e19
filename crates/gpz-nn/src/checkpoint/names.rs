//! Prefixes that wrappers of networks put before the names of tensors.

use std::collections::{BTreeMap, BTreeSet};

/// What DataParallel and DistributedDataParallel, Opacus, Lightning modules, torch.compile and detectors write before a name.
const PREFIXES: [&str; 5] = ["module.", "_module.", "model.", "_orig_mod.", "backbone."];
/// Most prefixes before a name.
const MAX_CHAIN: usize = 6;
/// Most different chains of prefixes that are tried.
const MAX_TRIED: usize = 64;

/// Length of the longest chain of known prefixes before a name.
fn chain_len(name: &str) -> usize {
    let mut rest = name;
    for _ in 0..MAX_CHAIN {
        let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) else {
            break;
        };
        rest = shorter;
    }
    name.len() - rest.len()
}

/// Every chain of prefixes that some name begins with, the empty one included.
fn chains<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut chains = BTreeSet::from([""]);
    for name in names {
        let chain = &name[..chain_len(name)];
        for (at, _) in chain.match_indices('.') {
            if chains.len() >= MAX_TRIED {
                return chains;
            }
            chains.insert(&chain[..=at]);
        }
    }
    chains
}

/// The name without a chain of prefixes, if it has it.
fn without<'a>(name: &'a str, chain: &str) -> &'a str {
    name.strip_prefix(chain).unwrap_or(name)
}

/// The chain of prefixes to drop from the names of a file for a network with the names `known`.
///
/// The one with which most of the network's names are found; of several, one that all names have, where none is found at all, and the
/// shortest otherwise. Names without the chain stay as they are. A chain whose loss makes two names one is left.
pub(super) fn prefix<'a, T>(file: &'a BTreeMap<String, T>, known: &BTreeSet<String>) -> &'a str {
    let mut best = ("", 0);
    for chain in chains(file.keys().map(String::as_str)) {
        let stripped: BTreeSet<&str> = file.keys().map(|name| without(name, chain)).collect();
        let found = stripped.iter().filter(|name| known.contains(**name)).count();
        let shorter = chain.len() < best.0.len();
        let is_better = found > best.1 || found == best.1 && found > 0 && shorter;
        let shared = best.1 == 0 && found == 0 && file.keys().all(|name| name.starts_with(chain));
        if stripped.len() == file.len() && (is_better || shared && !shorter) {
            best = (chain, found);
        }
    }
    best.0
}

/// The entries of a file without a chain of prefixes.
pub(super) fn strip<T: Clone>(file: &BTreeMap<String, T>, chain: &str) -> BTreeMap<String, T> {
    file.iter().map(|(name, value)| (without(name, chain).to_owned(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(file: &[&str], known: &[&str]) -> String {
        let file: BTreeMap<String, ()> = file.iter().map(|name| ((*name).to_owned(), ())).collect();
        prefix(&file, &known.iter().map(|name| (*name).to_owned()).collect()).to_owned()
    }

    #[test]
    fn the_chain_that_finds_most_names_is_dropped() {
        let known = ["conv.weight", "fc.bias"];
        for chain in ["", "module.", "module.module.", "_orig_mod.module.model.", "backbone."] {
            let names = known.map(|name| format!("{chain}{name}"));
            assert_eq!(chosen(&names.each_ref().map(String::as_str), &known), chain);
        }
        // A head outside of the backbone, a loss outside of the model.
        assert_eq!(chosen(&["backbone.conv.weight", "fc.bias"], &known), "backbone.");
        assert_eq!(
            chosen(&["model.conv.weight", "model.fc.bias", "loss.weight"], &known),
            "model."
        );
        // The network's own names begin so.
        let own = ["backbone.conv.weight", "backbone.fc.bias"];
        assert_eq!(chosen(&own, &own), "");
        assert_eq!(chosen(&own.map(|n| &*format!("module.{n}").leak()), &own), "module.");
        // Two networks in one file: dropping would mix them.
        assert_eq!(chosen(&["conv.weight", "model.conv.weight"], &known), "");
    }

    #[test]
    fn without_a_match_the_shared_prefix_goes() {
        let known = ["conv.weight"];
        assert_eq!(chosen(&["module.model.a", "module.model.b"], &known), "module.model.");
        assert_eq!(chosen(&["module.a", "model.b"], &known), "");
        assert_eq!(chosen(&[], &known), "");
    }

    #[test]
    fn endless_prefixes_are_tried_a_few_times_only() {
        let mut names: Vec<String> = (0..300u32)
            .map(|i| (0..8).map(|bit| PREFIXES[(i >> bit & 1) as usize]).collect::<String>() + "w")
            .collect();
        names.push("module.".repeat(100_000) + "w");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(chosen(&names, &["conv.weight"]), "");
        assert!(chains(names.into_iter()).len() <= MAX_TRIED);
    }
}
