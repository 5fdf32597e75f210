//! Reads what comes in: every string, map and number of a request is checked here once and becomes a type of ours.
//!
//! CSI limits strings to 128 bytes and maps to 4 KiB. Identifiers that are not ours cannot name anything of ours, so they
//! are *unknown*, not wrong. No parameter can hold a path: what is not in the closed lists below is refused.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;

use strongroom_model::{GroupId, RecoveryPointId, SnapshotId, VolumeId, VolumeName, is_forbidden_in_names};
use strongroom_proto::csi::volume_capability::AccessType;
use strongroom_proto::csi::volume_capability::access_mode::Mode;
use strongroom_proto::csi::{CapacityRange, Topology, TopologyRequirement, VolumeCapability};

use super::handle::SnapshotHandle;
use super::status::RequestError;
use crate::labels::{self, POLICY};
use crate::{Access, Changes, Filesystem, IoQuantity, PointChoice, SizeRange, VolumeKind};

type Checked<T> = Result<T, RequestError>;

/// What CSI allows for a string that has no limit of its own.
const STRING_BYTES: usize = 128;
/// What CSI allows for a map, keys and values together; also for all mount flags of a capability.
const MAP_BYTES: usize = 4096;
/// What CSI allows for the id of a node.
const NODE_ID_BYTES: usize = 256;
/// What the kernel allows for a path, without the closing NUL.
const PATH_BYTES: usize = 4095;

/// The key under which this driver tells where its volumes are.
pub(crate) const TOPOLOGY_KEY: &str = "strongroom.io/node";

/// A string that must be there, of CSI's usual length.
pub(crate) fn required<'a>(field: &'static str, text: &'a str) -> Checked<&'a str> {
    if text.is_empty() {
        return Err(RequestError::Missing { field });
    }
    optional(field, text)
}

/// A string of CSI's usual length that may be empty.
pub(crate) fn optional<'a>(field: &'static str, text: &'a str) -> Checked<&'a str> {
    if text.len() > STRING_BYTES {
        return Err(RequestError::TooLong { field, bytes: text.len(), limit: STRING_BYTES });
    }
    Ok(text)
}

/// A map of CSI's usual size.
pub(crate) fn map<'a>(
    field: &'static str,
    map: &'a HashMap<String, String>,
) -> Checked<&'a HashMap<String, String>> {
    let bytes = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAP_BYTES {
        return Err(RequestError::TooLong { field, bytes, limit: MAP_BYTES });
    }
    Ok(map)
}

/// The name that the orchestrator chose for a volume.
pub(crate) fn volume_name(text: &str) -> Checked<VolumeName> {
    required("name", text)?
        .parse()
        .map_err(|error| RequestError::Wrong { field: "name", reason: format!("{error}") })
}

/// The name that the orchestrator chose for a snapshot.
pub(crate) fn snapshot_name(text: &str) -> Checked<String> {
    let text = required("name", text)?;
    match text.char_indices().find(|(_, letter)| is_forbidden_in_names(*letter)) {
        Some((at, _)) => Err(RequestError::Wrong {
            field: "name",
            reason: format!("it has a control character that CSI forbids, at byte {at}"),
        }),
        None => Ok(text.to_owned()),
    }
}

/// An id that must be there; `None` when it cannot be one of ours.
fn id<T: FromStr>(field: &'static str, text: &str) -> Checked<Option<T>> {
    Ok(required(field, text)?.parse().ok())
}

/// The id of a volume that may be gone; `None` when it never was one of ours.
pub(crate) fn volume_id(text: &str) -> Checked<Option<VolumeId>> {
    id("volume_id", text)
}

/// The id of a snapshot of this driver that may be gone; `None` when it never was one of ours.
pub(crate) fn snapshot_id(text: &str) -> Checked<Option<SnapshotId>> {
    id("snapshot_id", text)
}

/// The id of a snapshot of either kind that may be gone; `None` when it never was one of ours.
pub(crate) fn handle(text: &str) -> Checked<Option<SnapshotHandle>> {
    id("snapshot_id", text)
}

/// The id of a group that may be gone; `None` when it never was one of ours.
pub(crate) fn group_id(text: &str) -> Checked<Option<GroupId>> {
    id("group_snapshot_id", text)
}

/// The id of a group that must exist.
pub(crate) fn known_group(text: &str) -> Checked<GroupId> {
    group_id(text)?.ok_or_else(|| RequestError::Unknown { subject: format!("group {text:?}") })
}

/// The id of a volume that must exist.
pub(crate) fn known_volume(field: &'static str, text: &str) -> Checked<VolumeId> {
    id(field, text)?.ok_or_else(|| RequestError::Unknown { subject: format!("volume {text:?}") })
}

/// The id of a snapshot of either kind that must exist.
pub(crate) fn known_handle(field: &'static str, text: &str) -> Checked<SnapshotHandle> {
    id(field, text)?.ok_or_else(|| RequestError::Unknown { subject: format!("snapshot {text:?}") })
}

/// The id of a snapshot of this driver that must exist.
pub(crate) fn known_snapshot(field: &'static str, text: &str) -> Checked<SnapshotId> {
    id(field, text)?.ok_or_else(|| RequestError::Unknown { subject: format!("snapshot {text:?}") })
}

/// The id of a recovery point that must exist.
pub(crate) fn known_point(field: &'static str, text: &str) -> Checked<RecoveryPointId> {
    id(field, text)?.ok_or_else(|| RequestError::Unknown { subject: format!("recovery point {text:?}") })
}

/// Which recovery point is meant: an id or the beginning of one, `NAME@latest`, or `NAME@TIME`.
pub(crate) fn point_choice(field: &'static str, text: &str) -> Checked<PointChoice> {
    PointChoice::parse(text).map_err(|reason| RequestError::Wrong { field, reason })
}

/// A path on this node: absolute, without `..`, as long as the kernel allows.
pub(crate) fn path(field: &'static str, text: &str) -> Checked<PathBuf> {
    let wrong = |reason: &str| Err(RequestError::Wrong { field, reason: reason.to_owned() });
    if text.is_empty() {
        return Err(RequestError::Missing { field });
    }
    if text.len() > PATH_BYTES {
        return Err(RequestError::TooLong { field, bytes: text.len(), limit: PATH_BYTES });
    }
    if text.contains('\0') {
        return wrong("it contains a NUL");
    }
    if text.chars().any(char::is_control) {
        return wrong("it contains a control character");
    }
    if !text.starts_with('/') {
        return wrong("it is not absolute");
    }
    if text.split('/').any(|part| part == "..") {
        return wrong("it goes up with `..`");
    }
    // Components drop doubled and closing slashes, so that one place has one spelling.
    Ok(PathBuf::from(text).components().collect())
}

/// A list of no more entries than this.
pub(crate) fn few(field: &'static str, count: usize, most: usize) -> Checked<()> {
    if count <= most {
        return Ok(());
    }
    Err(RequestError::Wrong { field, reason: format!("it has {count} entries; {most} are allowed") })
}

/// How many answers are wanted; 0: as many as there are.
pub(crate) fn count(field: &'static str, value: i32) -> Checked<usize> {
    usize::try_from(value).map_err(|_| RequestError::Wrong { field, reason: format!("{value} is negative") })
}

/// A place in a volume.
pub(crate) fn offset(field: &'static str, value: i64) -> Checked<u64> {
    u64::try_from(value)
        .map_err(|_| RequestError::OutOfRange { field, reason: format!("{value} is negative") })
}

/// A size between two; absent: no wish.
pub(crate) fn size(range: Option<&CapacityRange>) -> Checked<SizeRange> {
    let Some(range) = range else {
        return Ok(SizeRange { required_bytes: 0, limit_bytes: 0 });
    };
    let required_bytes = offset("capacity_range.required_bytes", range.required_bytes)?;
    let limit_bytes = offset("capacity_range.limit_bytes", range.limit_bytes)?;
    if required_bytes == 0 && limit_bytes == 0 {
        return Err(RequestError::Wrong {
            field: "capacity_range",
            reason: "it says neither how much is required nor a limit".into(),
        });
    }
    if limit_bytes != 0 && required_bytes > limit_bytes {
        return Err(RequestError::OutOfRange {
            field: "capacity_range",
            reason: format!("{required_bytes} bytes are required, but {limit_bytes} are the limit"),
        });
    }
    Ok(SizeRange { required_bytes, limit_bytes })
}

/// One way of using a volume, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capability {
    /// As a folder or as a device.
    pub(crate) access: Access,
    /// The filesystem that is asked for; `None`: whichever.
    pub(crate) filesystem: Option<Filesystem>,
    /// Options for mount.
    pub(crate) options: Vec<String>,
    /// Only for reading.
    pub(crate) readonly: bool,
    /// By one workload only.
    pub(crate) only_target: bool,
    /// The group that its workload's processes share.
    pub(crate) group: Option<u32>,
}

impl Capability {
    /// Why a volume of this kind cannot be used so.
    pub(crate) fn misfit(&self, kind: VolumeKind) -> Option<String> {
        match (self.access, kind.filesystem()) {
            (Access::Block, Some(_)) => Some(format!("it is an {kind} volume, not a raw device")),
            (Access::Mount, None) => Some("it is a raw device, not a filesystem".into()),
            (Access::Mount, Some(has)) => self
                .filesystem
                .filter(|wanted| *wanted != has)
                .map(|wanted| format!("it holds {}, not {}", has.as_str(), wanted.as_str())),
            (Access::Block, None) => None,
        }
    }
}

/// Whether a capability that cannot be served is the request's fault or the volume's: CSI has a code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// INVALID_ARGUMENT, of the Controller's calls.
    Request,
    /// FAILED_PRECONDITION, of the Node's.
    Volume,
}

/// One capability that must be there.
pub(crate) fn capability(given: Option<&VolumeCapability>, blame: Blame) -> Checked<Capability> {
    let given = given.ok_or(RequestError::Missing { field: "volume_capability" })?;
    understand(given)?.map_err(|reason| match blame {
        Blame::Request => RequestError::Unsupported { reason },
        Blame::Volume => RequestError::Incapable { reason },
    })
}

/// The outer error is a malformed capability, the inner one well-formed but not offered here.
pub(crate) fn understand(given: &VolumeCapability) -> Checked<Result<Capability, String>> {
    let access_type =
        given.access_type.as_ref().ok_or(RequestError::Missing { field: "volume_capability.access_type" })?;
    let mode = given
        .access_mode
        .as_ref()
        .ok_or(RequestError::Missing { field: "volume_capability.access_mode" })?
        .mode();
    let (readonly, only_target) = match mode {
        Mode::SingleNodeWriter | Mode::SingleNodeSingleWriter => (false, true),
        Mode::SingleNodeReaderOnly => (true, true),
        Mode::SingleNodeMultiWriter => (false, false),
        Mode::Unknown => {
            return Err(RequestError::Missing { field: "volume_capability.access_mode.mode" });
        }
        Mode::MultiNodeReaderOnly | Mode::MultiNodeSingleWriter | Mode::MultiNodeMultiWriter => {
            return Ok(Err("its volumes can be used on one node only".into()));
        }
    };
    let (access, filesystem, options, group) = match access_type {
        AccessType::Block(_) => (Access::Block, None, Vec::new(), None),
        AccessType::Mount(mount) => {
            let filesystem = match optional("fs_type", &mount.fs_type)? {
                "" => None,
                word => match filesystem(word) {
                    Some(known) => Some(known),
                    None => {
                        return Ok(Err(format!("the filesystem {word:?} is none of ext4, xfs and btrfs")));
                    }
                },
            };
            let group = match optional("volume_mount_group", &mount.volume_mount_group)? {
                "" => None,
                text => Some(group_number(text)?),
            };
            let bytes = mount.mount_flags.iter().map(String::len).sum();
            if bytes > MAP_BYTES {
                return Err(RequestError::TooLong { field: "mount_flags", bytes, limit: MAP_BYTES });
            }
            (Access::Mount, filesystem, mount.mount_flags.clone(), group)
        }
    };
    Ok(Ok(Capability { access, filesystem, options, readonly, only_target, group }))
}

/// A group by its number. Names mean something else in each container. The largest number means "no change" to the
/// kernel.
fn group_number(text: &str) -> Checked<u32> {
    text.parse()
        .ok()
        .filter(|id| *id != u32::MAX && text.bytes().all(|digit| digit.is_ascii_digit()))
        .ok_or_else(|| RequestError::Wrong {
            field: "volume_mount_group",
            reason: format!("{text:?} is not the number of a group"),
        })
}

/// All ways in which a volume is going to be used, which must agree with each other.
pub(crate) fn capabilities(given: &[VolumeCapability]) -> Checked<Vec<Capability>> {
    if given.is_empty() {
        return Err(RequestError::Missing { field: "volume_capabilities" });
    }
    given.iter().map(|one| capability(Some(one), Blame::Request)).collect()
}

/// The kind of volume that serves all of `capabilities`; `None`: any with a filesystem.
pub(crate) fn kind_for(
    capabilities: &[Capability],
    wanted: Option<Filesystem>,
) -> Checked<Option<VolumeKind>> {
    let contradiction = |reason: String| Err(RequestError::Unsupported { reason });
    let block = capabilities.iter().any(|one| one.access == Access::Block);
    if block {
        if capabilities.iter().any(|one| one.access == Access::Mount) {
            return contradiction("a volume is either a raw device or a filesystem, not both".into());
        }
        if let Some(filesystem) = wanted {
            return contradiction(format!("a raw device holds no {}", filesystem.as_str()));
        }
        return Ok(Some(VolumeKind::Block));
    }
    let mut found = wanted;
    for filesystem in capabilities.iter().filter_map(|one| one.filesystem) {
        match found {
            Some(other) if other != filesystem => {
                return contradiction(format!(
                    "a volume holds either {} or {}, not both",
                    other.as_str(),
                    filesystem.as_str()
                ));
            }
            _ => found = Some(filesystem),
        }
    }
    Ok(found.map(VolumeKind::from))
}

/// A filesystem by its name.
fn filesystem(word: &str) -> Option<Filesystem> {
    Filesystem::ALL.into_iter().find(|filesystem| filesystem.as_str() == word)
}

/// What the parameters of a volume or snapshot say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// The filesystem, for volumes.
    pub(crate) filesystem: Option<Filesystem>,
    /// Labels, for policies to select by.
    pub(crate) labels: BTreeMap<String, String>,
    /// The recovery point that a volume shall begin with.
    pub(crate) from_point: Option<PointChoice>,
    /// Of a snapshot: whether it shall become a recovery point.
    pub(crate) backup: Option<bool>,
}

/// Parameters that sidecars add by themselves when asked to, and the labels they become.
const FROM_SIDECARS: [(&str, &str); 6] = [
    ("csi.storage.k8s.io/pvc/name", "pvc.name"),
    ("csi.storage.k8s.io/pvc/namespace", "pvc.namespace"),
    ("csi.storage.k8s.io/pv/name", "pv.name"),
    ("csi.storage.k8s.io/volumesnapshot/name", "volumesnapshot.name"),
    ("csi.storage.k8s.io/volumesnapshot/namespace", "volumesnapshot.namespace"),
    ("csi.storage.k8s.io/volumesnapshotcontent/name", "volumesnapshotcontent.name"),
];

/// `fs` (ext4, xfs or btrfs), `from-point`, `type` (snapshot or backup), `label.KEY`, `policy` (the label of that name), and
/// what sidecars add. Anything else is refused.
pub(crate) fn parameters(given: &HashMap<String, String>) -> Checked<Parameters> {
    let wrong = |reason: String| RequestError::Wrong { field: "parameters", reason };
    let mut parameters = Parameters::default();
    for (key, value) in map("parameters", given)? {
        if key == "fs" {
            let known = filesystem(value);
            parameters.filesystem =
                Some(known.ok_or_else(|| wrong(format!("fs is ext4, xfs or btrfs, not {value:?}")))?);
            continue;
        }
        if key == "from-point" {
            let choice =
                PointChoice::parse(value).map_err(|reason| wrong(format!("from-point: {reason}")))?;
            parameters.from_point = Some(choice);
            continue;
        }
        if key == "type" {
            parameters.backup = Some(match value.as_str() {
                "backup" => true,
                "snapshot" => false,
                other => return Err(wrong(format!("type is snapshot or backup, not {other:?}"))),
            });
            continue;
        }
        let sidecar = FROM_SIDECARS.iter().find(|(from, _)| from == key).map(|(_, label)| *label);
        let label = match (key.strip_prefix("label."), sidecar) {
            (Some(label), _) | (None, Some(label)) => label,
            (None, None) if key == POLICY => POLICY,
            (None, None) => {
                return Err(wrong(format!(
                    "{key:?} is unknown; there are fs, from-point, type, policy and label.KEY"
                )));
            }
        };
        parameters.labels.insert(label.to_owned(), value.clone());
    }
    labels(&parameters.labels).map_err(|error| wrong(error.to_string()))?;
    Ok(parameters)
}

/// Refuses what is said of snapshots only.
pub(crate) fn no_snapshot_parameters(parameters: &Parameters) -> Checked<()> {
    if parameters.backup.is_none() {
        return Ok(());
    }
    let reason = "type is a parameter of snapshots".to_owned();
    Err(RequestError::Wrong { field: "parameters", reason })
}

/// What the parameters of a group of snapshots say: labels.
pub(crate) fn group_parameters(given: &HashMap<String, String>) -> Checked<BTreeMap<String, String>> {
    let parameters = parameters(given)?;
    if parameters.filesystem.is_some() || parameters.from_point.is_some() || parameters.backup == Some(true) {
        let reason = "a group holds what its volumes hold; there is only label.KEY".to_owned();
        return Err(RequestError::Wrong { field: "parameters", reason });
    }
    Ok(parameters.labels)
}

/// Labels that [`crate::labels`] allows.
pub(crate) fn labels(given: &BTreeMap<String, String>) -> Checked<()> {
    labels::check(given).map_err(|reason| RequestError::Wrong { field: "labels", reason })
}

/// What can be changed about a volume: `label.KEY`, `policy` (the label of that name), and the limits of its I/O. An
/// empty value takes the label or limit away. Anything else is refused, and then all of it.
pub(crate) fn mutable_parameters(given: &HashMap<String, String>) -> Checked<Changes> {
    let wrong = |reason: String| RequestError::Wrong { field: "mutable_parameters", reason };
    let mut changes = Changes::default();
    for (key, value) in map("mutable_parameters", given)? {
        if let Some(quantity) = IoQuantity::ALL.into_iter().find(|quantity| quantity.parameter() == key) {
            let limit = match value.as_str() {
                "" => 0,
                digits => digits
                    .parse()
                    .map_err(|_| wrong(format!("{key} is a whole number a second, not {value:?}")))?,
            };
            changes.limits.insert(quantity, NonZeroU64::new(limit));
            continue;
        }
        let label = match key.strip_prefix("label.") {
            Some(label) => label,
            None if key == POLICY => POLICY,
            None => {
                let known = IoQuantity::ALL.map(IoQuantity::parameter).join(", ");
                return Err(wrong(format!("{key:?} is unknown; there are label.KEY, {POLICY}, {known}")));
            }
        };
        let value = Some(value.clone()).filter(|value| !value.is_empty());
        labels(&[(label.to_owned(), value.clone().unwrap_or_default())].into())
            .map_err(|error| wrong(error.to_string()))?;
        if changes.labels.insert(label.to_owned(), value).is_some() {
            return Err(wrong(format!("the label {label:?} is given twice")));
        }
    }
    Ok(changes)
}

/// The id of a node, which may be longer than other strings.
pub(crate) fn node_id(text: &str) -> Checked<&str> {
    if text.len() > NODE_ID_BYTES {
        return Err(RequestError::TooLong { field: "node_id", bytes: text.len(), limit: NODE_ID_BYTES });
    }
    Ok(text)
}

/// This node's place.
pub(crate) fn topology(node: &str) -> Topology {
    Topology { segments: [(TOPOLOGY_KEY.to_owned(), node.to_owned())].into() }
}

/// Whether a place is this node. A place without our key is somewhere in the cluster that we cannot judge: not here.
pub(crate) fn is_here(place: &Topology, node: &str) -> bool {
    place.segments.iter().any(|(key, value)| key.eq_ignore_ascii_case(TOPOLOGY_KEY) && value == node)
}

/// A volume has to be reachable from one of the required places, and ours is reachable from here only.
///
/// So there is nothing to choose: when this node is among those that are required, it is taken whatever stands before it
/// in the order of preference, and when none is required, preferences alone keep nothing from being made here.
pub(crate) fn reachable(requirement: Option<&TopologyRequirement>, node: &str) -> Checked<()> {
    for place in requirement.iter().flat_map(|places| places.requisite.iter().chain(&places.preferred)) {
        map("accessibility_requirements", &place.segments)?;
    }
    match requirement {
        Some(places)
            if !places.requisite.is_empty() && !places.requisite.iter().any(|one| is_here(one, node)) =>
        {
            Err(RequestError::Elsewhere { node: node.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
