//! A world, its facts, and a model database to which they are written.

use std::collections::HashMap;

use expect_test::Expect;
use ovn::Fact;
use ovsdb::{Op, Replica};
use plan::testing::Event;
use plan::{Key, Settings, World};
use sync::{Facts, Touched, diff, text::describe};

use crate::model::{apply, diff_all, empty};

/// Turns events into operations as the controller does.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) facts: Facts,
    pub(crate) db: Replica,
    /// The current facts of each key, kept for their removal.
    compiled: HashMap<Key, Vec<Fact>>,
}

impl Scene {
    /// Returns an empty world next to a database.
    pub(crate) fn beside(db: Replica) -> Self {
        let world = World::new(Settings::default());
        Self { world, facts: Facts::new(), db, compiled: HashMap::new() }
    }

    /// Returns the state after these events, written to an empty database.
    pub(crate) fn after(events: impl IntoIterator<Item = Event>) -> Self {
        let mut scene = Self::beside(empty());
        scene.happen(events);
        let ops = diff_all(&scene.facts, &scene.db).ops();
        apply(&mut scene.db, &ops);
        scene
    }

    /// Applies events. Returns what they touched.
    pub(crate) fn happen(&mut self, events: impl IntoIterator<Item = Event>) -> Touched {
        events.into_iter().for_each(|event| event.apply(&mut self.world));
        for key in self.world.take_dirty() {
            let facts = self.world.compile(&key);
            let group = key.group();
            self.facts.extend_by(&group, facts.iter().cloned());
            for fact in self.compiled.insert(key, facts).into_iter().flatten() {
                assert!(self.facts.remove_from(&group, &fact), "{fact} is not wanted");
            }
        }
        self.facts.take_touched()
    }

    /// Applies events together, checks the operations, and checks that nothing is left to do.
    pub(crate) fn check(&mut self, events: impl IntoIterator<Item = Event>, operations: &Expect) {
        let touched = self.happen(events);
        let ops = diff(&self.facts, &touched, &self.db).ops();
        self.write(&ops, operations);
    }

    /// Compares everything, checks the operations, and checks that nothing is left to do.
    pub(crate) fn check_all(&mut self, operations: &Expect) {
        let ops = diff_all(&self.facts, &self.db).ops();
        self.write(&ops, operations);
    }

    fn write(&mut self, ops: &[Op], expected: &Expect) {
        expected.assert_eq(&lines(ops, &self.db));
        apply(&mut self.db, ops);
        assert_eq!(lines(&diff_all(&self.facts, &self.db).ops(), &self.db), "", "left over");
    }

    /// Compiles the facts of the world from scratch.
    pub(crate) fn compiled_anew(&self) -> Vec<Fact> {
        self.world.keys().flat_map(|key| self.world.compile(&key)).collect()
    }
}

fn lines(ops: &[Op], db: &Replica) -> String {
    describe(ops, db).into_iter().map(|line| line + "\n").collect()
}
