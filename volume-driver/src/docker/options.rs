//! Options of `docker volume create -o NAME=VALUE`.
//!
//! The list is closed, and nothing in it can be a path. What is not in it is refused by its name, since an option
//! that is silently ignored is a wish that nobody fulfils.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use strongroom_console::Size;

use crate::csi::door;
use crate::csi::status::RequestError;
use crate::labels::POLICY;
use crate::{IoLimits, IoQuantity, PointChoice, SizeRange, VolumeKind, WantedKind};

/// What a volume shall begin with, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A recovery point in the repository.
    Point(PointChoice),
    /// A snapshot by its id.
    Snapshot(String),
    /// A volume by its name or id.
    Volume(String),
}

/// The options of a new volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) size: SizeRange,
    pub(super) kind: WantedKind,
    pub(super) origin: Option<Origin>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) limits: IoLimits,
}

impl Options {
    pub(super) fn parse(given: &BTreeMap<String, String>) -> Result<Self, RequestError> {
        let mut options = Self {
            size: SizeRange::of(0),
            kind: WantedKind::Filesystem,
            origin: None,
            labels: BTreeMap::new(),
            limits: IoLimits::NONE,
        };
        for (name, value) in given {
            options.take(name, value)?;
        }
        door::labels(&options.labels)?;
        Ok(options)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), RequestError> {
        if let Some(quantity) = IoQuantity::ALL.into_iter().find(|quantity| quantity.parameter() == name) {
            let limit = value
                .parse()
                .map_err(|_| wrong("option", &format!("{name} is a whole number a second, not {value:?}")))?;
            self.limits = self.limits.with(quantity, NonZeroU64::new(limit));
            return Ok(());
        }
        match name {
            "size" => {
                let size: Size = value.parse().map_err(|error| wrong("size", &error))?;
                if size.0 == 0 {
                    return Err(wrong("size", &"a volume of no bytes holds nothing"));
                }
                self.size = SizeRange::of(size.0);
            }
            "fs" => {
                self.kind = match value.parse().map_err(|error| wrong("fs", &error))? {
                    VolumeKind::Block => {
                        return Err(wrong(
                            "fs",
                            &"containers of Docker mount folders, and a raw volume has none",
                        ));
                    }
                    kind => WantedKind::Exactly(kind),
                }
            }
            POLICY => self.label(POLICY, value)?,
            "from-point" => self.begin_with(name, Origin::Point(door::point_choice("from-point", value)?))?,
            "from-snapshot" => self.begin_with(name, Origin::Snapshot(named("from-snapshot", value)?))?,
            "from-volume" => self.begin_with(name, Origin::Volume(named("from-volume", value)?))?,
            _ => match name.strip_prefix("label.") {
                Some(key) => self.label(key, value)?,
                None => {
                    let known = "size, fs, policy, label.KEY, from-point, from-snapshot, from-volume";
                    let limits = IoQuantity::ALL.map(IoQuantity::parameter).join(", ");
                    let name: String = name.chars().take(64).collect();
                    return Err(wrong("option", &format!("{name:?} is none of {known}, {limits}")));
                }
            },
        }
        Ok(())
    }

    fn label(&mut self, key: &str, value: &str) -> Result<(), RequestError> {
        match self.labels.insert(key.to_owned(), value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(wrong("option", &format!("the label {key:?} is given twice"))),
        }
    }

    fn begin_with(&mut self, name: &str, origin: Origin) -> Result<(), RequestError> {
        match self.origin.replace(origin) {
            None => Ok(()),
            Some(_) => Err(wrong(
                "option",
                &format!("{name} and another origin are given; a volume begins with one"),
            )),
        }
    }
}

fn named(field: &'static str, value: &str) -> Result<String, RequestError> {
    door::required(field, value).map(str::to_owned)
}

fn wrong(field: &'static str, reason: &dyn std::fmt::Display) -> RequestError {
    RequestError::Wrong { field, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<Options, RequestError> {
        Options::parse(&given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn options_say_what_the_volume_shall_be() {
        let options = parse(&[
            ("size", "64MiB"),
            ("fs", "xfs"),
            ("policy", "hourly"),
            ("label.app", "shop"),
            ("from-volume", "db"),
            ("iops.write", "100"),
            ("iops.read", "0"),
        ])
        .unwrap();
        assert_eq!(options.size, SizeRange::of(64 << 20));
        assert_eq!(options.kind, WantedKind::Exactly(VolumeKind::Xfs));
        assert_eq!(options.origin, Some(Origin::Volume("db".to_owned())));
        assert_eq!(options.limits.describe(), "iops.write=100");
        let labels = [("app", "shop"), ("policy", "hourly")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(options.labels, labels.into());
    }

    #[test]
    fn what_is_not_an_option_is_refused_by_its_name() {
        let refused = parse(&[("sise", "1GiB")]).unwrap_err().to_string();
        assert!(refused.contains("\"sise\""), "{refused}");
        for wrong in [
            ("size", "10"),
            ("size", "0"),
            ("size", "-1GiB"),
            ("fs", "zfs"),
            ("fs", "block"),
            ("from-point", ""),
            ("label.", "x"),
            ("label.a b", "x"),
            ("label.a", "x\ny"),
            ("mountpoint", "/etc"),
            ("iops.read", "-1"),
            ("iops.read", ""),
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong:?}");
        }
        assert!(parse(&[("from-volume", "a"), ("from-snapshot", "b")]).is_err());
        assert!(parse(&[("policy", "a"), ("label.policy", "b")]).is_err());
    }
}
