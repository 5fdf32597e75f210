//! The plan as a person reads it before saying yes.

use std::time::Duration;

use jiff::tz::TimeZone;
use strongroom_console::{Size, TimeSpan, local_and_utc};

use super::{Base, RestorePlan, Target};

/// Lost ranges that are listed for a person; JSON has all.
const MOST_LOST: usize = 16;

/// Names on the left, values in line on the right.
pub(crate) fn aligned(facts: &[(&'static str, String)]) -> Vec<String> {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    facts.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect()
}

impl RestorePlan {
    /// The plan on a page of its own, for standard error or standard output alike.
    #[must_use]
    pub fn text(&self, zone: &TimeZone) -> String {
        let mut lines = aligned(&self.facts(zone));
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        for lost in self.lost.iter().take(MOST_LOST) {
            lines.push(format!("lost: bytes {}..{}: {}", lost.start, lost.end, lost.why));
        }
        if self.lost.len() > MOST_LOST {
            lines.push(format!("lost: and {} more ranges", self.lost.len() - MOST_LOST));
        }
        lines.join("\n")
    }

    fn facts(&self, zone: &TimeZone) -> Vec<(&'static str, String)> {
        let totals = &self.totals;
        let size = |bytes: u64| Size(bytes).to_string();
        let mut facts = vec![
            ("run", self.run.to_string()),
            ("volume", self.point.volume.to_string()),
            ("point", format!("{} of {}", self.point.id, local_and_utc(self.point.taken_at, zone))),
        ];
        if let Some(at) = self.asked_at {
            facts.push(("asked for", local_and_utc(at, zone)));
        }
        if let Some((point, at)) = &self.next_point {
            facts.push(("next point", format!("{point} of {}", local_and_utc(*at, zone))));
        }
        facts.push(("size", size(totals.volume_bytes)));
        facts.push(("to", self.target.describe()));
        facts.push(("begins with", self.base.describe()));
        let at_most = if self.base == Base::VolumeItself { "at most " } else { "" };
        facts.push((
            "fetch",
            format!(
                "{at_most}{} in {} requests from {} packs",
                size(totals.fetch_bytes),
                totals.requests,
                totals.packs
            ),
        ));
        facts.push(("write", format!("{at_most}{}", size(totals.write_bytes))));
        for (name, bytes) in [
            ("there already", totals.present_bytes),
            ("done before", totals.done_bytes),
            ("copy locally", totals.copy_bytes),
            ("make zero", totals.zero_bytes),
            ("stay holes", totals.hole_bytes),
            ("LOST", totals.lost_bytes),
        ] {
            if bytes > 0 {
                facts.push((name, size(bytes)));
            }
        }
        facts
            .push(("verify", if self.verify { "everything is read back and compared" } else { "no" }.into()));
        let about = Duration::from_secs(self.estimated_seconds);
        facts.push(("takes about", TimeSpan(about).to_string()));
        if let Target::InPlace { safety_label, .. } = &self.target {
            facts.push(("keeps", format!("the present content as safety snapshot {safety_label}")));
        }
        if let Some(undo) = &self.undo {
            facts.push(("undo", undo.clone()));
        }
        facts
    }
}
