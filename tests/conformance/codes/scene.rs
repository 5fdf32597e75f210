//! What the cases stand on: a published volume, an idle one, a raw one, and snapshots.

use std::path::PathBuf;

use crate::identity::Offered;
use crate::machine::{Machine, Options};
use crate::requests::Kind;
use crate::volume;

pub(super) struct Scene {
    pub(super) machine: Machine,
    pub(super) offered: Offered,
    /// ext4, staged and published for one writer.
    pub(super) db: String,
    pub(super) target: PathBuf,
    /// ext4, nowhere.
    pub(super) idle: String,
    /// A raw device, nowhere.
    pub(super) raw: String,
    /// Of `db`.
    pub(super) snapshot: String,
    /// Of `idle`.
    pub(super) other_snapshot: String,
}

impl Scene {
    pub(super) fn new(test: &str) -> Option<Self> {
        let options = Options { words: &["--max-volumes", "2"], ..Default::default() };
        let machine = Machine::with(test, options)?;
        let offered = Offered::ask(&machine);
        let db = volume::small(&machine, "db", Kind::Ext4);
        let target = volume::publish(&machine, &db, "db", Kind::Ext4);
        let idle = volume::small(&machine, "idle", Kind::Ext4);
        let raw = volume::small(&machine, "raw", Kind::Block);
        let snapshot = volume::snapshot(&machine, &db, "of db").snapshot_id;
        let other_snapshot = volume::snapshot(&machine, &idle, "of idle").snapshot_id;
        Some(Self { machine, offered, db, target, idle, raw, snapshot, other_snapshot })
    }

    /// Nothing of the refused calls is left.
    pub(super) fn finish(self) -> Machine {
        volume::unpublish(&self.machine, &self.db, "db");
        self.machine.clear();
        self.machine.check_nothing_is_left();
        self.machine
    }
}
