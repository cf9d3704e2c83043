//! All variables that last, and how much room they take: a pure container.
//!
//! It knows sizes, not rules: those are [`services`](super::services)'. How it lies in a file is
//! [`format`](super::format)'s.

use std::collections::BTreeMap;
use std::ops::Bound;

use thiserror::Error;

use super::variable::{Variable, VariableId};
use crate::guid::Guid;

/// Bytes of all variables together with their names: sixteen of the largest, or some thousand usual ones.
pub const STORE_MAX: usize = 512 << 10;

/// No room for another variable.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("The variable store is full: {STORE_MAX} bytes")]
pub struct Full;

/// Variables in the order of their vendors and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    variables: BTreeMap<VariableId, Variable>,
    used: usize,
    /// The machine's generation: it is the same as long as the store is.
    pub generation: Guid,
    /// The machine's UUID, by which guests and their licences know it; none until a machine has run with the store.
    pub machine: Option<Guid>,
}

impl Store {
    /// An empty one of a generation.
    #[must_use]
    pub fn new(generation: Guid) -> Self {
        Store { variables: BTreeMap::new(), used: 0, generation, machine: None }
    }

    /// A variable.
    #[must_use]
    pub fn get(&self, id: &VariableId) -> Option<&Variable> {
        self.variables.get(id)
    }

    /// Puts a variable in its place, or none, and returns what was there.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed then.
    pub fn replace(&mut self, id: &VariableId, variable: Option<Variable>) -> Result<Option<Variable>, Full> {
        let freed = self.get(id).map_or(0, |old| old.cost(id));
        let used = self.used - freed + variable.as_ref().map_or(0, |new| new.cost(id));
        // What shrinks always fits: a store may be fuller than full, if a later version of this program allows less.
        if used > STORE_MAX && used > self.used {
            return Err(Full);
        }
        self.used = used;
        Ok(match variable {
            Some(variable) => self.variables.insert(id.clone(), variable),
            None => self.variables.remove(id),
        })
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&VariableId, &Variable)> {
        self.variables.iter()
    }

    /// Those after a name, or all.
    pub(super) fn after<'a>(
        &'a self,
        id: Option<&VariableId>,
    ) -> impl Iterator<Item = (&'a VariableId, &'a Variable)> {
        after(&self.variables, id)
    }

    /// Bytes that are free.
    #[must_use]
    pub fn free(&self) -> usize {
        STORE_MAX.saturating_sub(self.used)
    }
}

/// The entries of a map after a name, or all.
pub(super) fn after<'a, T>(
    map: &'a BTreeMap<VariableId, T>,
    id: Option<&VariableId>,
) -> impl Iterator<Item = (&'a VariableId, &'a T)> + use<'a, T> {
    map.range::<VariableId, _>((id.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::nvram::protocol::Attributes;

    #[test]
    fn a_full_store_takes_no_more_but_gives_back() {
        let mut store = Store::new(Guid::ZERO);
        let id = |number: usize| VariableId::new(Guid::ZERO, &format!("Tiny{number}")).unwrap();
        let tiny = || Some(Variable::new(Attributes::LASTING, vec![0]));
        let fitted = (0..).find(|&number| store.replace(&id(number), tiny()).is_err()).unwrap();
        assert_eq!(store.iter().len(), fitted);
        assert!((1000..5000).contains(&fitted), "{fitted}");
        let before = store.clone();
        assert_eq!(store.replace(&id(0), Some(Variable::new(Attributes::LASTING, vec![0; 999]))), Err(Full));
        assert_eq!(store, before);
        for number in 0..fitted {
            store.replace(&id(number), None).unwrap();
        }
        assert_eq!(store, Store::new(Guid::ZERO));
    }
}
