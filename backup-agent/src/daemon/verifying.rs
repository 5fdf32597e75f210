//! Reading stored data again, a part at a time: what was verified longest ago first.
//!
//! What was seen goes into the journal, so the next part goes on from there, whichever agent reads it; and `status` and the
//! metrics speak of what the journal says, never of what this process believes it did.

use strongroom_model::{Failure as _, chain};
use strongroom_repository::check::{CheckOptions, ReadData};
use strongroom_settings::CheckConfig;

use crate::run::Agent;

/// Reads one part. What fails is logged and tried again next time; to be stopped at any moment does no harm.
pub(super) async fn read_a_part(agent: &Agent, config: CheckConfig) {
    let options = CheckOptions {
        read: ReadData::Share(config.share.fraction()),
        structure: false,
        record: true,
        ..CheckOptions::default()
    };
    match agent.repository.check_with(&options, &|_, _| {}).await {
        Ok(checked) => {
            for damage in &checked.damages {
                let lost: u64 = damage
                    .loses
                    .iter()
                    .flat_map(|loss| &loss.ranges)
                    .map(strongroom_model::ByteRange::len)
                    .sum();
                tracing::error!(
                    object = damage.object,
                    what = damage.what,
                    points = damage.loses.len(),
                    lost_bytes = lost,
                    advice = "`strongroom repository repair` lists which points lose which bytes",
                    "stored data is damaged"
                );
            }
            if let Some(error) = &checked.not_noted {
                tracing::warn!(
                    error,
                    "what was read is not noted in the journal; the next part begins at the same place"
                );
            }
            tracing::info!(
                packs = checked.read_packs,
                read_bytes = checked.read_bytes,
                damaged = checked.damages.len(),
                never_verified_bytes = checked.proof.never_bytes,
                "verified a part of the stored data"
            );
        }
        Err(error) => tracing::error!(
            code = error.code(),
            error = chain(&error),
            advice = error.advice(),
            "verifying stored data failed"
        ),
    }
}
