//! Group snapshots: several volumes at one moment.
//!
//! All filesystems are frozen, in the order of the volumes' ids, each under a watchdog of its own that was started
//! before the first freeze; all images are cloned; all are thawed. Whatever an application wrote to one member
//! before it wrote to another is then in the group, or neither is, or only the first.
//!
//! Raw volumes cannot be frozen. One of them needs no freeze: its clone is the moment, and the others stand still. Where
//! several are attached, each but the last is cloned a second time after the last: if nothing changed between, all
//! of them were at the moment of the last clone what their first clones show. If something did, the group is tried again
//! a few times, and then refused: it never claims an order that it cannot show.

use std::fs::File;

use jiff::Timestamp;
use strongroom_model::{GroupId, SnapshotId, VolumeId};

use crate::backend::PendingClone;
use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::describe::described;
use crate::driver::snapshot::check_label;
use crate::freeze::Armed;
use crate::image::ImageName;
use crate::mount_table::MountTable;
use crate::nouns::{Group, Outcome};
use crate::registry::{CutMember, GroupRow, SnapshotRow, VolumeRow};
use crate::requests::CreateGroup;

/// Each member is a process that watches, a few open files and some milliseconds of freeze for all the others.
const MOST_MEMBERS: usize = 64;

/// How often a group of raw volumes is cut until nothing was written meanwhile.
const ATTEMPTS: usize = 5;

/// A volume and the snapshot that it is about to have.
#[derive(Debug)]
struct Member {
    volume: VolumeRow,
    snapshot: SnapshotRow,
}

impl Driver {
    pub(crate) fn create_group(&self, request: &CreateGroup) -> Result<Outcome<Group>, CoreError> {
        let subject = format!("group {:?}", request.name);
        let refuse = |reason: String| Err(CoreError::Refused { subject: subject.clone(), reason });
        check_label(&request.name)?;
        let mut ids = request.volumes.clone();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return refuse(format!("volume {} is in it twice", pair[0]));
        }
        if ids.is_empty() || ids.len() > MOST_MEMBERS {
            return refuse(format!("it has {} volumes; 1 to {MOST_MEMBERS} can be in a group", ids.len()));
        }
        let _name = self.guards.take(&subject)?;
        if let Some(existing) = self.registry.group_named(&request.name)? {
            if existing.ready {
                return self.compare_group(existing, &ids, request);
            }
            self.undo_group(&existing)?;
        }
        let _volumes = ids.iter().map(|id| self.guards.take(id)).collect::<Result<Vec<_>, _>>()?;
        let volumes = ids.iter().map(|id| self.usable(*id)).collect::<Result<Vec<_>, _>>()?;
        self.pool.admit(&subject)?;
        let (row, members) = self.plan_group(request, volumes);
        let snapshots: Vec<SnapshotRow> = members.iter().map(|member| member.snapshot.clone()).collect();
        self.registry.insert_group(&row, &snapshots)?;
        crash::point!("group.intended");
        let taken = self.cut_until_together(&subject, &members).and_then(|(at, cut)| {
            crash::point!("group.cut");
            self.registry.settle_group(row.id, at, &cut)
        });
        if let Err(error) = taken {
            self.undo_group(&row)?;
            return Err(error);
        }
        self.group(row.id).map(Outcome::Created)
    }

    /// What a group with its members will be, so that nothing of it is unknown to a later start.
    fn plan_group(&self, request: &CreateGroup, volumes: Vec<VolumeRow>) -> (GroupRow, Vec<Member>) {
        let (id, now) = (GroupId::random(&*self.world.entropy), self.world.clock.now());
        let row = GroupRow {
            id,
            name: request.name.clone(),
            owner: request.owner.clone(),
            labels: request.labels.clone(),
            ready: false,
            created_at: now,
        };
        let member = |volume: VolumeRow| {
            let own = SnapshotId::random(&*self.world.entropy);
            let snapshot = SnapshotRow {
                owner: request.owner.clone(),
                labels: request.labels.clone(),
                group: Some(id),
                // The name of the group may be that of another snapshot of this volume; its id is not.
                ..SnapshotRow::intended(own, &volume, id.to_string(), now)
            };
            Member { volume, snapshot }
        };
        (row, volumes.into_iter().map(member).collect())
    }

    /// The same name again: the same volumes, owner and labels, or a conflict.
    fn compare_group(
        &self,
        existing: GroupRow,
        wanted: &[VolumeId],
        request: &CreateGroup,
    ) -> Result<Outcome<Group>, CoreError> {
        let group = self.described_group(existing)?;
        let mut has: Vec<VolumeId> = group.snapshots.iter().map(|snapshot| snapshot.volume).collect();
        has.sort_unstable();
        let difference = if has != wanted {
            format!("it is a group of {}", has.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        } else if group.labels != request.labels {
            format!("it has the labels {:?}", group.labels)
        } else if group.owner != request.owner {
            format!("it belongs to {}", group.owner)
        } else {
            return Ok(Outcome::Identical(group));
        };
        Ok(Outcome::Conflict { existing: group, difference })
    }

    fn cut_until_together(
        &self,
        subject: &str,
        members: &[Member],
    ) -> Result<(Timestamp, Vec<CutMember>), CoreError> {
        for _ in 0..ATTEMPTS {
            if let Some(cut) = self.cut_together(members)? {
                return Ok(cut);
            }
            // What was cut is no group; its names are needed again.
            for member in members {
                self.backend.remove(&member.snapshot.image())?;
            }
        }
        Err(CoreError::NotReady {
            subject: subject.to_owned(),
            reason: "several of its volumes are raw devices that are written to without pause, so no common moment could be cut"
                .to_owned(),
        })
    }

    /// `None`: raw volumes were written to meanwhile.
    fn cut_together(&self, members: &[Member]) -> Result<Option<(Timestamp, Vec<CutMember>)>, CoreError> {
        let mut stands =
            members.iter().map(|member| self.stand(&member.volume)).collect::<Result<Vec<_>, _>>()?;
        let raw: Vec<usize> = (0..members.len()).filter(|at| matches!(stands[*at], Stand::Raw)).collect();
        let clone =
            |at: usize| self.backend.clone_image(&members[at].volume.image, &members[at].snapshot.image());
        let mut clones = (0..members.len()).map(clone).collect::<Result<Vec<_>, _>>()?;
        let mut witnesses: Vec<Witness> = match raw.split_last() {
            Some((_, others)) => {
                others.iter().map(|at| self.witness(*at, &members[*at])).collect::<Result<_, _>>()?
            }
            None => Vec::new(),
        };

        // From here to the thaw nothing is logged, recorded or allocated but the clones.
        let mut frozen = Vec::new();
        for stand in &mut stands {
            if let Stand::Mounted(armed) = stand
                && let Some(armed) = armed.take()
            {
                frozen.push(armed.freeze()?);
            }
        }
        let cut = cut_all(&mut clones, &mut witnesses, &raw);
        let at = self.world.clock.now();
        crash::point!("group.frozen");
        // The last frozen has stood still for the shortest time; each is thawed whatever the others say.
        let thawed: Vec<Result<(), CoreError>> =
            frozen.into_iter().rev().map(|frozen| frozen.thaw().map(drop)).collect();
        cut?;
        thawed.into_iter().collect::<Result<(), _>>()?;

        for (clone, member) in clones.into_iter().zip(members) {
            clone.finish(member.volume.bytes)?;
        }
        let mut together = true;
        for witness in witnesses {
            together &= self.agrees(witness, members)?;
        }
        let member = |(member, stand): (&Member, &Stand)| CutMember {
            snapshot: member.snapshot.id,
            quiesced: !matches!(stand, Stand::Raw),
        };
        Ok(together.then(|| (at, members.iter().zip(&stands).map(member).collect())))
    }

    /// What has to be done to a volume before it can be cut; its watchdog is started.
    fn stand(&self, volume: &VolumeRow) -> Result<Stand, CoreError> {
        let Some(device) = self.backend.attached(&volume.image)? else { return Ok(Stand::Still) };
        let table = MountTable::read()?;
        if let Some(mount) = table.of_device(device.number).find(|mount| !mount.is_readonly()) {
            self.let_run(volume.id);
            let settings = self.settings();
            let armed =
                Armed::arm(&mount.path, &volume.subject(), &settings.watchdog, settings.limits.freeze)?;
            return Ok(Stand::Mounted(Some(armed)));
        }
        // Writes that ended before this moment belong to the cut, and may still be in the page cache.
        File::open(&device.path)
            .and_then(|node| node.sync_all())
            .map_err(CoreError::system("flushing", &device.path))?;
        Ok(if volume.kind.filesystem().is_none() { Stand::Raw } else { Stand::Still })
    }

    /// Prepares a second clone of a raw volume. Its image counts as discarded from the beginning.
    fn witness(&self, member: usize, of: &Member) -> Result<Witness, CoreError> {
        let image = ImageName::of_snapshot(SnapshotId::random(&*self.world.entropy));
        self.registry.discard_image(&image)?;
        let clone = self.backend.clone_image(&of.volume.image, &image)?;
        Ok(Witness { member, image, clone })
    }

    /// Whether a raw volume was not written to between its clone and its witness.
    fn agrees(&self, witness: Witness, members: &[Member]) -> Result<bool, CoreError> {
        let member = &members[witness.member];
        witness.clone.finish(member.volume.bytes)?;
        let changed =
            self.backend.changed(Some(&member.snapshot.image()), &witness.image, 0).and_then(|mut ranges| {
                ranges
                    .next()
                    .transpose()
                    .map_err(|cause| CoreError::Blocks { subject: member.volume.subject(), cause })
            });
        self.collect_or_log(&witness.image);
        Ok(changed?.is_none())
    }

    pub(super) fn undo_group(&self, row: &GroupRow) -> Result<(), CoreError> {
        let members = self.registry.members(row.id)?;
        self.registry.drop_group(row.id, &members)?;
        for member in &members {
            self.collect_or_log(&member.image());
        }
        Ok(())
    }

    /// Deletes a group with its members, if `given` are these members (`None`: whichever they are). Unknown: fine.
    pub(crate) fn delete_group(&self, id: GroupId, given: Option<&[SnapshotId]>) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let Some(row) = self.registry.group(id)? else { return Ok(()) };
        if !row.ready {
            return Err(CoreError::Busy { subject: row.subject() });
        }
        let members = self.registry.members(id)?;
        check_members(&row, &members, given)?;
        let _members =
            members.iter().map(|member| self.guards.take(member.id)).collect::<Result<Vec<_>, _>>()?;
        self.registry.drop_group(id, &members)?;
        crash::point!("group.dropped");
        members.iter().try_for_each(|member| self.collect(&member.image()))
    }

    pub(crate) fn group(&self, id: GroupId) -> Result<Group, CoreError> {
        self.described_group(self.complete_group(id)?)
    }

    /// As [`Driver::group`], if `given` are its members.
    pub(crate) fn group_of(&self, id: GroupId, given: &[SnapshotId]) -> Result<Group, CoreError> {
        let row = self.complete_group(id)?;
        check_members(&row, &self.registry.members(id)?, Some(given))?;
        self.described_group(row)
    }

    pub(crate) fn groups(&self) -> Result<Vec<Group>, CoreError> {
        let rows = self.registry.groups()?.into_iter().filter(|row| row.ready);
        rows.map(|row| self.described_group(row)).collect()
    }

    fn complete_group(&self, id: GroupId) -> Result<GroupRow, CoreError> {
        self.registry
            .group(id)?
            .filter(|row| row.ready)
            .ok_or_else(|| CoreError::NotFound { subject: format!("group {id}") })
    }

    fn described_group(&self, row: GroupRow) -> Result<Group, CoreError> {
        Ok(Group {
            id: row.id,
            name: row.name,
            owner: row.owner,
            labels: row.labels,
            created_at: row.created_at,
            snapshots: self.registry.members(row.id)?.into_iter().map(described).collect(),
        })
    }
}

/// How a volume stands when it is about to be cut.
#[derive(Debug)]
enum Stand {
    /// Nobody writes to it.
    Still,
    /// A filesystem that has to be frozen; taken when it is.
    Mounted(Option<Armed>),
    /// A raw device that somebody may write to.
    Raw,
}

/// A second clone of a raw volume, taken after the last first clone.
#[derive(Debug)]
struct Witness {
    /// The place of the volume among the members.
    member: usize,
    image: ImageName,
    clone: Box<dyn PendingClone>,
}

/// What stands still first, then what may move, then what shows whether it did.
fn cut_all(
    clones: &mut [Box<dyn PendingClone>],
    witnesses: &mut [Witness],
    raw: &[usize],
) -> Result<(), CoreError> {
    for (at, clone) in clones.iter_mut().enumerate() {
        if !raw.contains(&at) {
            clone.cut()?;
        }
    }
    for at in raw {
        clones[*at].cut()?;
    }
    witnesses.iter_mut().try_for_each(|witness| witness.clone.cut())
}

/// Refuses a list of members that is not the group's.
fn check_members(
    row: &GroupRow,
    members: &[SnapshotRow],
    given: Option<&[SnapshotId]>,
) -> Result<(), CoreError> {
    let Some(given) = given else { return Ok(()) };
    let mut has: Vec<SnapshotId> = members.iter().map(|member| member.id).collect();
    let mut wanted = given.to_vec();
    has.sort_unstable();
    wanted.sort_unstable();
    wanted.dedup();
    if has == wanted {
        return Ok(());
    }
    let reason = format!("{} other snapshots are named than the {} of the group", given.len(), has.len());
    Err(CoreError::Refused { subject: row.subject(), reason })
}
