//! Inline volumes: what a pod says about a volume that lives and dies with it.

use std::collections::{BTreeMap, HashMap};

use super::door::{self, Parameters};
use super::status::RequestError;
use crate::SizeRange;

/// What the orchestrator says to every driver that wants to know about pods.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
const FROM_POD: [(&str, &str); 2] =
    [("csi.storage.k8s.io/pod.name", "pod.name"), ("csi.storage.k8s.io/pod.namespace", "pod.namespace")];

/// Whether an inline volume is asked for.
pub(crate) fn is_asked_for(context: &HashMap<String, String>) -> bool {
    context.get(EPHEMERAL).is_some_and(|value| value == "true")
}

/// What an inline volume shall be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inline {
    pub(crate) size: SizeRange,
    pub(crate) parameters: Parameters,
}

/// `size`, `fs`, `label.KEY`, and what the orchestrator adds by itself. Anything else is refused.
pub(crate) fn understand(context: &HashMap<String, String>) -> Result<Inline, RequestError> {
    let mut size = SizeRange { required_bytes: 0, limit_bytes: 0 };
    let mut others = HashMap::new();
    let mut labels = BTreeMap::new();
    for (key, value) in door::map("volume_context", context)? {
        if key == "size" {
            let bytes = quantity(value).ok_or_else(|| RequestError::Wrong {
                field: "volume_context",
                reason: format!("size is a number of bytes, or one with Ki, Mi, Gi or Ti; not {value:?}"),
            })?;
            size = SizeRange::of(bytes);
        } else if let Some((_, label)) = FROM_POD.iter().find(|(from, _)| from == key) {
            labels.insert((*label).to_owned(), value.clone());
        } else if !key.starts_with("csi.storage.k8s.io/") {
            others.insert(key.clone(), value.clone());
        }
    }
    let mut parameters = door::parameters(&others)?;
    parameters.labels.append(&mut labels);
    door::labels(&parameters.labels)?;
    Ok(Inline { size, parameters })
}

/// A size as Kubernetes writes it: `1073741824`, `1Gi`, `500M`.
fn quantity(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u64.pow(2),
        "G" => 1000_u64.pow(3),
        "T" => 1000_u64.pow(4),
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        "Ti" | "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

/// Whether an id is one that Kubernetes gives to inline volumes. One that is not known belongs to a volume that is gone.
pub(crate) fn is_handle(text: &str) -> bool {
    text.strip_prefix("csi-").is_some_and(|hash| {
        hash.len() == 64 && hash.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Filesystem;

    fn of(pairs: &[(&str, &str)]) -> Result<Inline, RequestError> {
        let map = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        understand(&map.collect())
    }

    #[test]
    fn a_pod_says_size_and_filesystem_and_nothing_that_could_be_a_path() {
        let inline = of(&[
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.name", "web-0"),
            ("csi.storage.k8s.io/serviceAccount.tokens", "secret"),
            ("size", "500Mi"),
            ("fs", "btrfs"),
        ]);
        let inline = inline.unwrap();
        assert_eq!(inline.size.required_bytes, 500 << 20);
        assert_eq!(inline.parameters.filesystem, Some(Filesystem::Btrfs));
        assert_eq!(inline.parameters.labels, [("pod.name".to_owned(), "web-0".to_owned())].into());
        for wrong in
            [("size", "0"), ("size", "-1"), ("size", "1e9"), ("size", "99999999Ti"), ("path", "/etc")]
        {
            assert!(of(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_ids_of_the_one_form_are_taken_for_inline_volumes_that_are_gone() {
        assert!(is_handle(&format!("csi-{}", "0a".repeat(32))));
        for other in ["csi-", "csi-../../etc", "vol-07070707070707070707070707070707"] {
            assert!(!is_handle(other), "{other}");
        }
    }
}
