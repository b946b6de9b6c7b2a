//! A world, what is wanted of it, and the model of a database that it is written to.

use std::collections::HashMap;

use expect_test::Expect;
use ovn::Fact;
use ovsdb::{Op, Replica};
use plan::testing::Event;
use plan::{Key, Settings, World};
use sync::{Facts, Touched, diff, diff_all, text::describe};

use crate::model::{apply, empty};

/// From events to operations, as the controller does it.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) facts: Facts,
    pub(crate) db: Replica,
    /// What each key wants now, so that it can be taken back.
    compiled: HashMap<Key, Vec<Fact>>,
}

impl Scene {
    /// An empty world beside a database.
    pub(crate) fn beside(db: Replica) -> Self {
        let world = World::new(Settings::default());
        Self { world, facts: Facts::new(), db, compiled: HashMap::new() }
    }

    /// What is so after these events, written to an empty database.
    pub(crate) fn after(events: impl IntoIterator<Item = Event>) -> Self {
        let mut scene = Self::beside(empty());
        scene.happen(events);
        let ops = diff_all(&scene.facts, &scene.db);
        apply(&mut scene.db, &ops);
        scene
    }

    /// These events happen. Answers what they touched.
    pub(crate) fn happen(&mut self, events: impl IntoIterator<Item = Event>) -> Touched {
        events.into_iter().for_each(|event| event.apply(&mut self.world));
        for key in self.world.take_dirty() {
            let facts = self.world.compile(&key);
            self.facts.extend(facts.iter().cloned());
            for fact in self.compiled.insert(key, facts).into_iter().flatten() {
                assert!(self.facts.remove(&fact), "{fact} is not wanted");
            }
        }
        self.facts.take_touched()
    }

    /// These events happen at once, these operations follow, and nothing is left to do then.
    pub(crate) fn check(&mut self, events: impl IntoIterator<Item = Event>, operations: &Expect) {
        let touched = self.happen(events);
        let ops = diff(&self.facts, &touched, &self.db);
        self.write(&ops, operations);
    }

    /// Everything is compared, these operations follow, and nothing is left to do then.
    pub(crate) fn check_all(&mut self, operations: &Expect) {
        let ops = diff_all(&self.facts, &self.db);
        self.write(&ops, operations);
    }

    fn write(&mut self, ops: &[Op], expected: &Expect) {
        expected.assert_eq(&lines(ops, &self.db));
        apply(&mut self.db, ops);
        assert_eq!(lines(&diff_all(&self.facts, &self.db), &self.db), "", "left over");
    }

    /// What the world wants, compiled without looking at what was compiled before.
    pub(crate) fn compiled_anew(&self) -> Vec<Fact> {
        self.world.keys().flat_map(|key| self.world.compile(&key)).collect()
    }
}

fn lines(ops: &[Op], db: &Replica) -> String {
    describe(ops, db).into_iter().map(|line| line + "\n").collect()
}
