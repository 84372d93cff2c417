//! Names of nodes and tensors, and tables by name. The numbers are those of [`lowkey_models`]: tensor 0 is the network's input, tensor
//! i + 1 what node i makes.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// What a table goes by: numbers from 0 on.
pub trait Id: Copy {
    /// The one at a position.
    fn new(index: usize) -> Self;

    /// Its position.
    fn index(self) -> usize;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// The one at a position.
            ///
            /// # Panics
            /// Beyond 2^32, which no network reaches ([`lowkey_models::check::MAX_NODES`]).
            pub fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("a network has far fewer"))
            }

            /// Its position.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl Id for $name {
            fn new(index: usize) -> Self {
                Self::new(index)
            }

            fn index(self) -> usize {
                self.index()
            }
        }
    };
}

id! {
    /// A node.
    NodeId
}

id! {
    /// A tensor.
    TensorId
}

impl NodeId {
    /// The tensor that it makes.
    pub fn output(self) -> TensorId {
        TensorId(self.0 + 1)
    }
}

impl TensorId {
    /// The network's input.
    pub const INPUT: Self = Self(0);

    /// The node that makes it; `None` for the network's input.
    pub fn maker(self) -> Option<NodeId> {
        self.0.checked_sub(1).map(NodeId)
    }
}

/// One value for each node or tensor.
#[derive(Clone, PartialEq, Eq)]
pub struct By<K, T> {
    values: Vec<T>,
    key: PhantomData<K>,
}

/// One value for each node.
pub type ByNode<T> = By<NodeId, T>;
/// One value for each tensor.
pub type ByTensor<T> = By<TensorId, T>;

impl<K: Id, T> By<K, T> {
    /// A table of `len` values.
    pub fn with(len: usize, value: impl FnMut() -> T) -> Self {
        std::iter::repeat_with(value).take(len).collect()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.values.iter()
    }

    /// The values with their names, in order.
    pub fn pairs(&self) -> impl DoubleEndedIterator<Item = (K, &T)> + ExactSizeIterator {
        self.values.iter().enumerate().map(|(index, value)| (K::new(index), value))
    }

    /// All names, in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = K> + use<K, T> {
        (0..self.values.len()).map(K::new)
    }

    /// The value of the next name.
    pub(crate) fn push(&mut self, value: T) {
        self.values.push(value);
    }
}

impl<K: Id, T> By<K, Option<T>> {
    /// Takes the value of a name out of the table; `None` too where the table does not know the name.
    pub(crate) fn take(&mut self, id: K) -> Option<T> {
        self.values.get_mut(id.index()).and_then(Option::take)
    }
}

impl<K, T> From<Vec<T>> for By<K, T> {
    fn from(values: Vec<T>) -> Self {
        Self { values, key: PhantomData }
    }
}

impl<K, T> FromIterator<T> for By<K, T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Vec::from_iter(values).into()
    }
}

impl<K: Id, T> Index<K> for By<K, T> {
    type Output = T;

    fn index(&self, id: K) -> &T {
        &self.values[id.index()]
    }
}

impl<K: Id, T> IndexMut<K> for By<K, T> {
    fn index_mut(&mut self, id: K) -> &mut T {
        &mut self.values[id.index()]
    }
}

impl<K, T: fmt::Debug> fmt::Debug for By<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_what_is_not_there_is_none() {
        let mut table = ByNode::from(vec![Some('a'), None]);
        let taken: Vec<Option<char>> = [0, 0, 1, 2].map(|index| table.take(NodeId::new(index))).into();
        assert_eq!(taken, [Some('a'), None, None, None]);
    }

    #[test]
    fn a_tensor_is_made_by_the_node_before_it() {
        assert_eq!(TensorId::INPUT.maker(), None);
        for index in 0..3 {
            let node = NodeId::new(index);
            assert_eq!((node.output().index(), node.output().maker()), (index + 1, Some(node)));
        }
    }
}
