//! Labels of volumes and snapshots: what may be one.

use std::collections::BTreeMap;

/// The label by which a volume chooses its backup policy, whatever the policies themselves select.
pub(crate) const POLICY: &str = "policy";

/// Kubernetes allows as much for the name of a label.
const LONGEST_KEY: usize = 63;
/// What CSI allows for a string.
const LONGEST_VALUE: usize = 128;
/// What CSI allows for a map, keys and values together.
const MOST_BYTES: usize = 4096;

/// Labels have short names and values without control characters. The error is a sentence.
pub(crate) fn check(labels: &BTreeMap<String, String>) -> Result<(), String> {
    for (key, value) in labels {
        if key.is_empty()
            || key.len() > LONGEST_KEY
            || key.contains('=')
            || key.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return Err(format!(
                "{key:?} is no name for a label: 1 to {LONGEST_KEY} bytes without spaces and `=`"
            ));
        }
        if value.len() > LONGEST_VALUE || value.chars().any(char::is_control) {
            return Err(format!(
                "the value of {key:?} has more than {LONGEST_VALUE} bytes or a control character"
            ));
        }
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MOST_BYTES {
        return Err(format!("all labels together have {bytes} bytes; {MOST_BYTES} are allowed"));
    }
    Ok(())
}
