//! The tape: what was computed, in order, so that gradients can be computed backwards.
//!
//! A forward pass is written once. On a training tape each operation leaves a node with its gradient rule, provided that a gradient
//! reaches one of its operands; on an evaluation tape, and for constants, nothing is kept and memory is freed as the pass goes on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use gpz_tensor::Tensor;

use crate::error::{Error, Result};
use crate::module::{Entry, EntryId};

/// Computes the gradients of a node's operands from the gradient of its value.
type Rule = Box<dyn FnOnce(&Tensor) -> Result<Vec<(usize, Tensor)>>>;

enum Node {
    Leaf(EntryId),
    Operation(Rule),
}

/// How layers that behave differently in training behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, dropout, gradients.
    Train,
    /// Running statistics, no dropout, no gradients.
    Eval,
}

/// A record of one forward pass. Cheap to clone; clones are the same tape.
#[derive(Clone)]
pub struct Tape(Rc<Inner>);

struct Inner {
    mode: Mode,
    nodes: RefCell<Vec<Node>>,
    leaves: RefCell<BTreeMap<EntryId, usize>>,
    updates: RefCell<Vec<(EntryId, Tensor)>>,
    key: u64,
    masks: Cell<u64>,
    used_up: Cell<bool>,
}

/// What a training step learnt: gradients of parameters and new values of running statistics.
#[derive(Debug, Default)]
pub struct Step {
    gradients: BTreeMap<EntryId, Tensor>,
    updates: BTreeMap<EntryId, Tensor>,
}

impl Step {
    /// Gradient with respect to a parameter; `None` where none reaches it.
    pub fn gradient(&self, entry: &Entry) -> Option<&Tensor> {
        self.gradients.get(&entry.id())
    }

    /// New value of a running statistic.
    pub fn update(&self, entry: &Entry) -> Option<&Tensor> {
        self.updates.get(&entry.id())
    }

    /// Whether all gradients are finite.
    ///
    /// # Errors
    /// What a CUDA device fails with.
    pub fn all_finite(&self) -> Result<bool> {
        for gradient in self.gradients.values() {
            if !gradient.all_finite()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The gradients of all parameters that one reaches.
    pub fn gradients(&self) -> Vec<&Tensor> {
        self.gradients.values().collect()
    }
}

impl Tape {
    /// A tape that records. Dropout draws its masks from `key`: equal keys, equal masks.
    pub fn train(key: u64) -> Self {
        Self::new(Mode::Train, key)
    }

    /// A tape that records nothing.
    pub fn eval() -> Self {
        Self::new(Mode::Eval, 0)
    }

    fn new(mode: Mode, key: u64) -> Self {
        Tape(Rc::new(Inner {
            mode,
            nodes: RefCell::default(),
            leaves: RefCell::default(),
            updates: RefCell::default(),
            key,
            masks: Cell::new(0),
            used_up: Cell::new(false),
        }))
    }

    /// Whether layers are in training or in evaluation.
    pub fn mode(&self) -> Mode {
        self.0.mode
    }

    /// A parameter as an operand. Used twice, it is one leaf, and its gradients add up.
    pub fn parameter(&self, entry: &Entry) -> Var {
        if self.0.mode == Mode::Eval {
            return Var::constant(entry.value().clone());
        }
        let mut leaves = self.0.leaves.borrow_mut();
        let index = *leaves.entry(entry.id()).or_insert_with(|| self.push(Node::Leaf(entry.id())));
        Var { value: entry.value().clone(), node: Some((self.clone(), index)), recipe: None }
    }

    /// Notes the new value of a running statistic; [`Tape::backward`] hands it over.
    pub fn note_update(&self, entry: &Entry, value: Tensor) {
        self.0.updates.borrow_mut().push((entry.id(), value));
    }

    /// A key for the next random mask of this pass.
    pub(crate) fn next_mask_key(&self) -> u64 {
        let count = self.0.masks.get();
        self.0.masks.set(count + 1);
        self.0.key.wrapping_add(count.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    fn is(&self, other: &Tape) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    fn push(&self, node: Node) -> usize {
        let mut nodes = self.0.nodes.borrow_mut();
        nodes.push(node);
        nodes.len() - 1
    }

    /// Gradients of a loss with respect to every parameter that took part. Uses the tape up: what was kept for the rules is freed as
    /// they run.
    ///
    /// # Errors
    /// [`Error::NotScalar`] or [`Error::NoGradient`]; [`Error::OtherTape`] if the loss, or part of what led to it, was recorded on
    /// another tape, or if this one has been run backward before.
    pub fn backward(&self, loss: &Var) -> Result<Step> {
        if loss.value.numel() != 1 {
            return Err(Error::NotScalar { shape: loss.value.shape().into() });
        }
        let Some((tape, last)) = &loss.node else {
            return Err(Error::NoGradient);
        };
        if !tape.is(self) || self.0.used_up.replace(true) {
            return Err(Error::OtherTape);
        }
        self.0.leaves.borrow_mut().clear();
        let mut nodes = self.0.nodes.take();
        let mut gradients: Vec<Option<Tensor>> = vec![None; last + 1];
        gradients[*last] = Some(loss.value.full_like(1.0)?);
        let mut step = Step::default();
        nodes.truncate(last + 1);
        while let Some(node) = nodes.pop() {
            let Some(gradient) = gradients[nodes.len()].take() else {
                continue;
            };
            match node {
                Node::Leaf(id) => {
                    step.gradients.insert(id, gradient);
                }
                Node::Operation(rule) => {
                    for (operand, part) in rule(&gradient)? {
                        let sum = match gradients[operand].take() {
                            Some(sum) => sum.add(&part)?,
                            None => part,
                        };
                        gradients[operand] = Some(sum);
                    }
                }
            }
        }
        step.updates.extend(self.0.updates.take());
        Ok(step)
    }
}

/// Computes a value once more, to the same bits.
type Recipe = Rc<dyn Fn() -> Result<Tensor>>;

/// What a gradient rule keeps of an operand: the value, or how it is computed again when the rule runs. Memory of a training step is
/// mostly values kept for rules; one that follows in a single pass over another kept value need not be among them.
pub(crate) enum Kept {
    Value(Tensor),
    Again(Recipe),
}

impl Kept {
    pub(crate) fn get(&self) -> Result<Tensor> {
        match self {
            Kept::Value(value) => Ok(value.clone()),
            Kept::Again(recipe) => recipe(),
        }
    }
}

/// A tensor that may be part of a recorded computation.
#[derive(Clone)]
pub struct Var {
    value: Tensor,
    node: Option<(Tape, usize)>,
    recipe: Option<Recipe>,
}

impl Var {
    /// A value no gradient reaches.
    pub fn constant(value: Tensor) -> Self {
        Var { value, node: None, recipe: None }
    }

    /// The value.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The value, without what led to it.
    pub fn into_value(self) -> Tensor {
        self.value
    }

    /// Extents of the axes.
    pub fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    /// Says how a recorded value is computed again from what its own rule keeps, so that rules it is an operand of need not keep it.
    /// The recipe must hold nothing that this rule does not hold: as long as the value is kept, so is what it holds.
    pub(crate) fn or_again(mut self, recipe: impl Fn() -> Result<Tensor> + 'static) -> Var {
        self.recipe = self.node.is_some().then(|| Rc::new(recipe) as Recipe);
        self
    }

    /// The value for a rule that this is an operand of.
    pub(crate) fn kept(&self) -> Kept {
        match &self.recipe {
            Some(recipe) => Kept::Again(recipe.clone()),
            None => Kept::Value(self.value.clone()),
        }
    }

    /// The result of an operation on `operands`, with the rule that gives the gradient of each operand that wants one.
    ///
    /// The rule is called with the gradient of the result and, for each operand, whether its gradient is wanted; it returns the
    /// gradients in the operands' order. What it captured is freed at once where nothing is recorded.
    ///
    /// This is how an operation is added: compute the value, capture what its gradient needs, record. Operands of different tapes
    /// are an error when the gradient is asked for.
    pub fn record<const N: usize>(
        value: Tensor,
        operands: [&Var; N],
        rule: impl FnOnce(&Tensor, [bool; N]) -> Result<[Option<Tensor>; N]> + 'static,
    ) -> Var {
        Self::record_all(value, &operands, move |dy, wanted| {
            Ok(rule(dy, std::array::from_fn(|i| wanted[i]))?.into())
        })
    }

    /// [`Var::record`] for an operation whose number of operands is not known beforehand.
    pub fn record_all(
        value: Tensor,
        operands: &[&Var],
        rule: impl FnOnce(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + 'static,
    ) -> Var {
        let Some((tape, _)) = operands.iter().find_map(|v| v.node.as_ref()) else {
            return Var::constant(value);
        };
        let one_tape = operands.iter().all(|v| v.node.as_ref().is_none_or(|(t, _)| t.is(tape)));
        let node_of = |v: &&Var| v.node.as_ref().map(|(_, index)| *index);
        let indices: Vec<Option<usize>> = operands.iter().map(node_of).collect();
        let node = Node::Operation(Box::new(move |dy| {
            if !one_tape {
                return Err(Error::OtherTape);
            }
            let wanted: Vec<bool> = indices.iter().map(Option::is_some).collect();
            let parts = rule(dy, &wanted)?;
            Ok(indices.into_iter().zip(parts).filter_map(|(i, part)| i.zip(part)).collect())
        }));
        let index = tape.push(node);
        Var { value, node: Some((tape.clone(), index)), recipe: None }
    }
}

#[cfg(test)]
mod tests {
    use gpz_tensor::{DType, Tensor};

    use super::{Kept, Tape, Var};
    use crate::module::Entry;

    #[test]
    fn rules_keep_a_recipe_only_of_what_was_recorded() {
        let x = Tensor::from_slice(&[-2.0f32, -0.0, 0.7, 3.0], &[2, 2]).unwrap();
        let slope = Entry::parameter(Tensor::full(&[1], 0.25, DType::F32).unwrap());
        let prelu = |tape: &Tape| Var::constant(x.clone()).prelu(&tape.parameter(&slope)).unwrap();
        let recorded = prelu(&Tape::train(0));
        assert!(matches!(recorded.kept(), Kept::Again(_)));
        let bits = |y: &Tensor| y.to_vec::<f32>().unwrap().iter().map(|y| y.to_bits()).collect();
        let (again, kept): (Vec<u32>, Vec<u32>) =
            (bits(&recorded.kept().get().unwrap()), bits(recorded.value()));
        assert_eq!(again, kept);
        assert!(matches!(prelu(&Tape::eval()).kept(), Kept::Value(_)));
        // Another value than the recipe's.
        assert!(matches!(recorded.affine(2.0, 0.0).unwrap().kept(), Kept::Value(_)));
        assert!(matches!(recorded.reshape(&[4]).unwrap().kept(), Kept::Value(_)));
    }
}
