//! Reads a case and answers what is asked of it.
//!
//! A folder holds `truth.json` (`{cases: [{id, group, doc, file, truth: [{quantity, kind, how, accept}], scalars…}]}`) and the tensors as
//! safetensors. Of an entry of `truth` the quantity's name, `how` and the accepted words are read, never a value.
//!
//! Where a quantity of a law may be answered by any estimator, the choice follows from the data by a stated rule:
//!
//! - `mi` of pairs: after Miller and Madow where both are symbols and most pairs were seen; infinite where a linear relation is exact; after
//!   Gao where a value holds a twentieth of the rows; otherwise the Gaussian estimate, of normal scores where columns are not Gaussian,
//!   unless that of nearest neighbours lies more than three of its standard errors above. Both err low where dependence is strong:
//!   neighbours by the number of dimensions, the other by what is not Gaussian. Ties of rounded values are broken at random, which
//!   costs no information.
//! - `mi_label`: cross-fitted Gaussian classes, unless Ross's estimate lies more than three of its standard errors above; both err low,
//!   neighbours by the number of dimensions, classes by their parameters. At most the entropy of the labels.
//! - `entropy_z` where classes are: the classes' corrected Gaussian entropies plus `mi_label`, if the law is a stored mixture or rows have
//!   more than ten dimensions; else the smaller of neighbours on standardised columns and the corrected Gaussian. Those two err high.
//! - What is stored of the law (weights, means and covariances of a mixture) gives bounds, and estimates are kept within them.
//!
//! A word about behaviour says the worst that the estimators chosen by group and data had to say. The accepted words only pick a synonym
//! of that one finding, such as `refuse` or `not-identifiable`.
//!
//! Rows with NaN or an infinity are named, counted and set aside. Class geometry, counts of zeros and repeats, and first values are read in
//! blocks; estimators that need all rows at once hold them as they are stored, so a case of more than memory answers only the former.

mod answers;
mod behaviour;
mod case;
mod channels;
mod classes;
mod dependence;
mod gaussian;
mod kernels;
mod labels;
mod mixtures;
mod neighbours;
mod pairs;
mod sources;
mod store;
mod symbols;

use std::error::Error;
use std::path::Path;

use serde_json::Value;

use answers::{Answers, Finding};
use case::Case;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// What answers which quantities. Each takes what applies to it from the case's tensors; an answer given is not replaced, so the
/// estimator that knows most about a case stands first.
const TOPICS: [fn(&Case, &mut Answers<'_>); 12] = [
    classes::answer,
    channels::answer,
    sources::answer,
    symbols::answer,
    mixtures::answer,
    labels::answer,
    dependence::answer,
    kernels::answer,
    pairs::answer,
    gaussian::answer,
    neighbours::answer,
    behaviour::answer,
];

/// The answers to one case.
pub(crate) struct Answered {
    /// `{quantity: number or [numbers], behaviour: word}`.
    pub(crate) answers: Value,
    /// Entries of the case.
    pub(crate) asked: usize,
    /// Entries with an answer.
    pub(crate) answered: usize,
    /// What could not be read.
    pub(crate) notes: Vec<String>,
}

pub(crate) fn answer(folder: &Path, entry: &Value) -> Answered {
    let (case, mut notes) = Case::load(folder, entry);
    let mut answers = Answers::new(&case);
    if notes.is_empty() || case.has_tensors() {
        for topic in TOPICS {
            topic(&case, &mut answers);
        }
    } else {
        answers.behave(Finding::Error);
    }
    notes.extend(case.notes());
    let (asked, answered) = (case.asked.len(), answers.count());
    Answered { answers: answers.finish(), asked, answered, notes }
}
