//! Attaching: an orchestrator gives a volume to a node before that node stages it.
//!
//! Volumes are local, so there is one node that a volume can be given to, this one, and nothing moves. What is kept is
//! the promise: a volume that is attached cannot be deleted, has one node, and is read-only there if that was asked
//! for. Staging and publishing do not need an attachment, since Kubernetes is told not to make any; they honour
//! one that is there.

use std::sync::PoisonError;

use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::nouns::{Attachment, MountUse, Outcome};
use crate::registry::VolumeRow;

impl Driver {
    pub(crate) fn attach_to_node(
        &self,
        id: VolumeId,
        wanted: &Attachment,
    ) -> Result<Outcome<Attachment>, CoreError> {
        let _guard = self.guards.take(id)?;
        let row = self.usable(id)?;
        let here = &self.settings.node;
        if wanted.node != *here {
            return Err(CoreError::NotFound { subject: format!("node {:?}", wanted.node) });
        }
        let there = self.registry.attachments(id)?;
        if let Some(existing) = there.iter().find(|one| one.node == wanted.node) {
            if existing == wanted {
                return Ok(Outcome::Identical(existing.clone()));
            }
            let word = |yes, no, is: bool| if is { yes } else { no };
            let difference = format!(
                "it is attached there {}, for {}",
                word("read-only", "for reading and writing", existing.readonly),
                word("one workload", "many workloads", existing.only_target),
            );
            return Ok(Outcome::Conflict { existing: existing.clone(), difference });
        }
        // A node has other attachments than its own only when it was given another name since.
        if let Some(other) = there.first() {
            let holder = format!("it is attached to node {:?}", other.node);
            return Err(CoreError::InUse { subject: row.subject(), holder });
        }
        let limit = self.settings.limits.max_volumes;
        let _alone = self.provisioning.lock().unwrap_or_else(PoisonError::into_inner);
        if limit != 0 && self.registry.attached_to(here)? >= limit {
            return Err(CoreError::NodeFull { subject: row.subject(), node: here.clone(), limit });
        }
        self.registry.insert_attachment(id, wanted)?;
        crash::point!("attach.written");
        Ok(Outcome::Created(wanted.clone()))
    }

    /// `None`: from all nodes. Whatever is not attached, or not there at all, is detached already.
    pub(crate) fn detach_from_node(&self, id: VolumeId, node: Option<&str>) -> Result<(), CoreError> {
        let _guard = self.guards.take(id)?;
        let Some(row) = self.registry.volume(id)? else { return Ok(()) };
        if node.is_none_or(|node| node == self.settings.node)
            && self.registry.attachments(id)?.iter().any(|one| one.node == self.settings.node)
        {
            let device = self.backend.attached(&row.image)?;
            let used = self.live_mounts(&row, device.as_ref())?;
            let used = used.iter().find(|known| known.mount.purpose != MountUse::Hand);
            if let Some(used) = used {
                let holder = format!("it is still staged or published at {}", used.mount.path.display());
                return Err(CoreError::InUse { subject: row.subject(), holder });
            }
        }
        self.registry.remove_attachments(id, node)?;
        crash::point!("detach.written");
        Ok(())
    }

    /// InUse, naming the nodes, when a volume is attached.
    pub(super) fn refuse_if_attached(&self, row: &VolumeRow) -> Result<(), CoreError> {
        let nodes: Vec<String> =
            self.registry.attachments(row.id)?.iter().map(|one| format!("{:?}", one.node)).collect();
        if nodes.is_empty() {
            return Ok(());
        }
        let holder = format!("it is attached to node {}", nodes.join(", "));
        Err(CoreError::InUse { subject: row.subject(), holder })
    }
}
