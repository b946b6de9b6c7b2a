//! A row. It has few columns, so they are stored in one short list. Clones share the list until one of them changes.

use std::ops::Index;
use std::sync::Arc;
use std::{fmt, mem, slice, vec};

use crate::Datum;

/// Maps the requested columns to values, ordered by column name. `_uuid` is not included.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(Arc<Vec<Column>>);

type Column = (&'static str, Datum);

impl Row {
    /// Returns a row without columns.
    pub fn new() -> Row {
        Row::default()
    }

    /// Returns a row without columns, with capacity for `columns` columns.
    pub fn with_capacity(columns: usize) -> Row {
        Row(Arc::new(Vec::with_capacity(columns)))
    }

    /// Returns true if the row has no columns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of columns.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the value of a column.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.find(column).ok().map(|at| &self.0[at].1)
    }

    /// Returns a mutable reference to the value of a column.
    pub fn get_mut(&mut self, column: &str) -> Option<&mut Datum> {
        let at = self.find(column).ok()?;
        Arc::make_mut(&mut self.0).get_mut(at).map(|(_, value)| value)
    }

    /// Sets a column. Returns the old value.
    pub fn insert(&mut self, column: &'static str, value: Datum) -> Option<Datum> {
        let at = self.find(column);
        let columns = Arc::make_mut(&mut self.0);
        match at {
            Ok(at) => Some(mem::replace(&mut columns[at].1, value)),
            Err(at) => {
                columns.insert(at, (column, value));
                None
            }
        }
    }

    /// Iterates over the columns, in order.
    pub fn iter(&self) -> slice::Iter<'_, Column> {
        self.0.iter()
    }

    /// Iterates over the values of the columns, in order.
    pub fn values(&self) -> impl Iterator<Item = &Datum> {
        self.0.iter().map(|(_, value)| value)
    }

    fn find(&self, column: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (*name).cmp(column))
    }
}

/// Returns the empty set for a column that the row does not have.
impl Index<&str> for Row {
    type Output = Datum;

    fn index(&self, column: &str) -> &Datum {
        static EMPTY: Datum = Datum::empty();
        self.get(column).unwrap_or(&EMPTY)
    }
}

/// If a name occurs more than once, the last value wins.
impl Extend<Column> for Row {
    fn extend<I: IntoIterator<Item = Column>>(&mut self, columns: I) {
        for (column, value) in columns {
            self.insert(column, value);
        }
    }
}

impl FromIterator<Column> for Row {
    fn from_iter<I: IntoIterator<Item = Column>>(columns: I) -> Row {
        let columns = columns.into_iter();
        let mut row = Row::with_capacity(columns.size_hint().0);
        row.extend(columns);
        row
    }
}

impl<const N: usize> From<[Column; N]> for Row {
    fn from(columns: [Column; N]) -> Row {
        columns.into_iter().collect()
    }
}

impl IntoIterator for Row {
    type Item = Column;
    type IntoIter = vec::IntoIter<Column>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).into_iter()
    }
}

impl<'a> IntoIterator for &'a Row {
    type Item = &'a Column;
    type IntoIter = slice::Iter<'a, Column>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(column, value)| (column, value))).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn columns() -> impl Strategy<Value = Vec<Column>> {
        let column = prop::sample::select(vec!["name", "ports", "tag", "type"]);
        prop::collection::vec((column, (0..3_i64).prop_map(Datum::from)), 0..6)
    }

    proptest! {
        #[test]
        fn a_row_is_a_map_of_its_columns(one in columns(), other in columns()) {
            let (row, model): (Row, BTreeMap<_, _>) = (one.iter().cloned().collect(), one.into_iter().collect());
            prop_assert_eq!(row.iter().cloned().collect::<Vec<_>>(), model.clone().into_iter().collect::<Vec<_>>());
            for column in ["a", "name", "ports", "tag", "type", "z"] {
                prop_assert_eq!(row.get(column), model.get(column));
            }
            let (row2, model2): (Row, BTreeMap<_, _>) = (other.iter().cloned().collect(), other.into_iter().collect());
            prop_assert_eq!(row.cmp(&row2), model.cmp(&model2));
            prop_assert_eq!(row == row2, model == model2);
        }
    }

    #[test]
    fn a_copy_is_the_same_list_until_one_is_changed() {
        let row = Row::from([("name", "a".into())]);
        let mut copy = row.clone();
        assert!(Arc::ptr_eq(&row.0, &copy.0));
        copy.insert("name", "b".into());
        assert_eq!((&row["name"], &copy["name"]), (&Datum::from("a"), &Datum::from("b")));
    }

    #[test]
    fn a_column_that_is_not_there_reads_as_the_empty_set() {
        let row = Row::from([("name", "a".into())]);
        assert_eq!((row.get("tag"), &row["tag"], &row["name"]), (None, &Datum::empty(), &Datum::from("a")));
    }
}
