//! The files of a folder and what they are to each other.
//!
//! *Fresh* files are few and hold what came last. The *settled* tier holds the rest, in parts by the first bits of the ids,
//! so that it can be made anew part by part, with the room of one part to spare. While that is done there are two tiers: the
//! *settling* one has some parts already, and the fresh files that are older than it go into it.
//!
//! What is on the disk says all of this: a process that was killed leaves nothing that another state would not have.
//!
//! | name | what |
//! |---|---|
//! | `<…>.run` | a fresh file |
//! | `<age>-<bits>.packs` | the list of packs of a tier |
//! | `<age>-<part>.part` | a part of it |
//! | `….draft` | being written |

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_model::{PackId, RepositoryId};

use super::RunKey;
use super::file::{Part, RunFile};
use super::packs::PackList;
use super::run::Prefix;
use crate::pack::EntryRef;

/// All ids, in `1 << bits` parts of which some may not be there (any more, or yet).
#[derive(Debug, Clone)]
pub(super) struct Tier {
    pub(super) age: u64,
    pub(super) bits: u8,
    pub(super) packs: Arc<PackList>,
    pub(super) parts: Vec<Option<Arc<RunFile>>>,
}

impl Tier {
    pub(super) fn new(age: u64, bits: u8, packs: Arc<PackList>) -> Self {
        Self { age, bits, packs, parts: vec![None; 1 << bits] }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.parts.iter().all(Option::is_some)
    }

    pub(super) fn part(&self, part: Part) -> Option<&Arc<RunFile>> {
        self.parts.get(usize::from(part.number))?.as_ref()
    }

    fn part_of(&self, prefix: &Prefix) -> Option<&Arc<RunFile>> {
        self.part(Part::of(prefix, self.bits))
    }

    pub(super) fn rows(&self) -> u64 {
        self.parts.iter().flatten().map(|file| file.rows()).sum()
    }

    pub(super) fn table_path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{}.packs", self.age, self.bits))
    }

    pub(super) fn part_path(&self, dir: &Path, part: Part) -> PathBuf {
        dir.join(format!("{:016x}-{:02x}.part", self.age, part.number))
    }

    /// The parts of this tier that are made of one part of an older tier, by fewer bits.
    pub(super) fn children(&self, part: Part) -> impl Iterator<Item = Part> + use<> {
        let bits = self.bits;
        (0..=u8::MAX)
            .map(move |number| Part { bits, number })
            .take_while(move |child| u32::from(child.number) < 1 << bits)
            .filter(move |child| child.within(part.bits) == part)
    }

    fn files(&self, dir: &Path) -> impl Iterator<Item = PathBuf> {
        std::iter::once(self.table_path(dir))
            .chain(self.parts.iter().flatten().map(|file| file.path().to_owned()))
    }
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The oldest first.
    pub(super) fresh: Vec<Arc<RunFile>>,
    pub(super) settled: Option<Tier>,
    pub(super) settling: Option<Tier>,
}

impl View {
    /// Opens what is sound in a folder; besides, the files that are of no use.
    pub(super) fn load(dir: &Path, repository: RepositoryId) -> io::Result<(Self, Vec<PathBuf>)> {
        let mut paths: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
                paths.entry(extension.to_owned()).or_default().push(path);
            }
        }
        let mut of_kind = |kind: &str| paths.remove(kind).unwrap_or_default();
        let mut junk = of_kind("draft");
        let mut tiers: BTreeMap<u64, Tier> = BTreeMap::new();
        for path in of_kind("packs") {
            let tier = table_name(&path).and_then(|(age, bits)| {
                Some(Tier::new(age, bits, Arc::new(PackList::read(&path, repository).ok()?)))
            });
            match tier {
                Some(tier) => drop(tiers.insert(tier.age, tier)),
                None => junk.push(path),
            }
        }
        for path in of_kind("part") {
            let lists = |age: u64| tiers.get(&age).map(|tier| Arc::clone(&tier.packs));
            let part = RunFile::open(&path, repository, lists).ok().filter(|file| file.table() == file.age());
            let tier = part.as_ref().and_then(|file| tiers.get_mut(&file.table()));
            match (part, tier) {
                (Some(file), Some(tier)) if tier.bits == file.part().bits => {
                    let slot = usize::from(file.part().number);
                    tier.parts[slot] = Some(Arc::new(file));
                }
                _ => junk.push(path),
            }
        }
        let mut fresh = Vec::new();
        for path in of_kind("run") {
            match RunFile::open(&path, repository, |_| None) {
                Ok(file) if file.part() == Part::ALL => fresh.push(Arc::new(file)),
                _ => junk.push(path),
            }
        }
        Ok((Self::assemble(dir, fresh, tiers, &mut junk), junk))
    }

    fn assemble(
        dir: &Path,
        mut fresh: Vec<Arc<RunFile>>,
        mut tiers: BTreeMap<u64, Tier>,
        junk: &mut Vec<PathBuf>,
    ) -> Self {
        // A kill between the end of a merge and the removal of its sources leaves both.
        let all = fresh.clone();
        fresh.retain(|file| {
            let covered = all.iter().any(|other| {
                let (ours, theirs) = (file.packs(), other.packs());
                theirs.runs.len() > ours.runs.len() && ours.runs.iter().all(|run| theirs.knows_run(run))
            });
            if covered {
                junk.push(file.path().to_owned());
            }
            !covered
        });
        fresh.sort_by_key(|file| file.age());
        let newest = tiers.pop_last().map(|(_, tier)| tier);
        let older = tiers.pop_last().map(|(_, tier)| tier);
        for tier in tiers.values() {
            junk.extend(tier.files(dir));
        }
        let mut view = Self { fresh, settled: None, settling: None };
        match (older, newest) {
            (older, Some(newest)) if newest.is_complete() => {
                junk.extend(older.iter().flat_map(|tier| tier.files(dir)));
                view.settled = Some(newest);
                junk.extend(view.take_settled().iter().map(|file| file.path().to_owned()));
            }
            (older, Some(newest)) if view.can_go_on(older.as_ref(), &newest) => {
                (view.settled, view.settling) = (older, Some(newest));
            }
            (older, Some(newest)) => {
                junk.extend(newest.files(dir));
                match older {
                    Some(older) if older.is_complete() => view.settled = Some(older),
                    older => junk.extend(older.iter().flat_map(|tier| tier.files(dir))),
                }
            }
            _ => {}
        }
        view
    }

    /// Whether a tier can be finished that was begun on `older` and the fresh files before it.
    fn can_go_on(&self, older: Option<&Tier>, newest: &Tier) -> bool {
        let sources = || self.fresh.iter().filter(|file| file.age() < newest.age);
        let has_run = |run: &RunKey| {
            older.is_some_and(|tier| tier.packs.knows_run(run))
                || sources().any(|file| file.packs().knows_run(run))
        };
        let has_parts = |older: &Tier| {
            older.bits <= newest.bits
                && (0..1_usize << older.bits).all(|number| {
                    let number = u8::try_from(number).expect("at most 256 parts");
                    let part = Part { bits: older.bits, number };
                    older.part(part).is_some()
                        || newest.children(part).all(|child| newest.part(child).is_some())
                })
        };
        newest.packs.runs.iter().all(has_run) && older.is_none_or(has_parts)
    }

    /// Takes out the fresh files whose rows are in the settled tier.
    pub(super) fn take_settled(&mut self) -> Vec<Arc<RunFile>> {
        let age = self.settled.as_ref().map_or(0, |tier| tier.age);
        let (settled, fresh) = std::mem::take(&mut self.fresh).into_iter().partition(|file| file.age() < age);
        self.fresh = fresh;
        settled
    }

    /// Whether a fresh file is going into the tier that is being made.
    pub(super) fn is_settling(&self, file: &RunFile) -> bool {
        self.settling.as_ref().is_some_and(|tier| file.age() < tier.age)
    }

    /// Finds the places of a chunk, newest file first, until `accept` takes one. Answers that, and a damaged file.
    pub(super) fn find(
        &self,
        prefix: &Prefix,
        accept: &mut dyn FnMut(EntryRef) -> bool,
    ) -> (Option<EntryRef>, Option<Arc<RunFile>>) {
        let mut places = Vec::new();
        let done = self.settling.as_ref().and_then(|tier| tier.part_of(prefix));
        let fresh = self.fresh.iter().rev().filter(|file| done.is_none() || !self.is_settling(file));
        let part = done.or_else(|| self.settled.as_ref()?.part_of(prefix));
        for file in fresh.chain(part) {
            if file.lookup(prefix, &mut places).is_err() {
                return (None, Some(Arc::clone(file)));
            }
            for at in places.drain(..) {
                if accept(at) {
                    return (Some(at), None);
                }
            }
        }
        (None, None)
    }

    /// The age of the next file.
    pub(super) fn next_age(&self) -> u64 {
        let tiers = [&self.settled, &self.settling].into_iter().flatten().map(|tier| tier.age);
        self.fresh.iter().map(|file| file.age()).chain(tiers).max().unwrap_or(0) + 1
    }

    /// The lists of packs of the fresh files, and of the settled tier. What a settling tier knows is in these.
    pub(super) fn lists(&self) -> impl Iterator<Item = &Arc<PackList>> {
        self.fresh.iter().map(|file| file.packs()).chain(self.settled.iter().map(|tier| &tier.packs))
    }

    pub(super) fn knows_run(&self, key: &RunKey) -> bool {
        self.lists().any(|list| list.knows_run(key))
    }

    pub(super) fn knows_pack(&self, pack: &PackId) -> bool {
        self.lists().any(|list| list.knows_pack(pack))
    }

    /// How many rows, some of them more than once.
    pub(super) fn rows(&self) -> u64 {
        self.all_files().map(|file| file.rows()).sum()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let tiers = [&self.settled, &self.settling].into_iter().flatten();
        self.all_files().map(|file| file.memory_bytes()).sum::<usize>()
            + tiers.map(|tier| tier.packs.memory_bytes()).sum::<usize>()
    }

    fn all_files(&self) -> impl Iterator<Item = &Arc<RunFile>> {
        let tiers = [&self.settled, &self.settling].into_iter().flatten();
        self.fresh.iter().chain(tiers.flat_map(|tier| tier.parts.iter().flatten()))
    }

    /// Takes in a part of the settling tier; with the last one that tier is the settled one. Answers what is of no use now.
    pub(super) fn take_part(&mut self, made: RunFile, dir: &Path) -> Vec<PathBuf> {
        let mut junk = Vec::new();
        let Some(tier) = &mut self.settling else { return junk };
        let part = made.part();
        tier.parts[usize::from(part.number)] = Some(Arc::new(made));
        if let Some(older) = &mut self.settled {
            let parent = part.within(older.bits);
            if tier.children(parent).all(|child| tier.part(child).is_some()) {
                let gone = older.parts[usize::from(parent.number)].take();
                junk.extend(gone.map(|file| file.path().to_owned()));
            }
        }
        if tier.is_complete() {
            junk.extend(self.settled.iter().flat_map(|older| older.files(dir)));
            self.settled = self.settling.take();
            junk.extend(self.take_settled().iter().map(|file| file.path().to_owned()));
        }
        junk
    }

    /// Forgets a file that is damaged, and what cannot be trusted without it. Answers the files that are of no use now.
    pub(super) fn lose(&mut self, damaged: &RunFile, dir: &Path) -> Vec<PathBuf> {
        let mut junk = vec![damaged.path().to_owned()];
        if damaged.table() != 0 || self.is_settling(damaged) {
            // Its rows would be missing in a tier that says that it has them. The runs come from the bucket again.
            let tiers = [self.settled.take(), self.settling.take()];
            junk.extend(tiers.iter().flatten().flat_map(|tier| tier.files(dir)));
        }
        self.fresh.retain(|file| file.path() != damaged.path());
        junk
    }
}

fn table_name(path: &Path) -> Option<(u64, u8)> {
    let (age, bits) = path.file_stem()?.to_str()?.split_once('-')?;
    let (age, bits) = (u64::from_str_radix(age, 16).ok()?, bits.parse().ok()?);
    (bits <= 8 && age > 0).then_some((age, bits))
}
