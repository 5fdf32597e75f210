//! Gauges that are computed for one scrape and then forgotten.
//!
//! Counters live as long as the process and stand in a `Registry`. What is true only now (room, ages, conditions) is
//! gathered first, and then written as a whole: one family after the other, each with all of its samples.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// One line of a family: labels and a value.
pub type Sample<'a> = (Vec<(&'static str, &'a str)>, f64);

/// Where families are written to.
#[derive(Debug)]
pub struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Page<'a> {
    /// A page at the end of what `encoder` wrote already.
    pub const fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// A family with one sample.
    ///
    /// # Errors
    /// When the page cannot be written to.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(family)
    }

    /// A family with many samples; without any, the family is left out.
    ///
    /// # Errors
    /// When the page cannot be written to.
    pub fn gauges<'s>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'s>>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// A collector that writes what `write` writes.
pub fn collected(write: impl Fn(&mut Page<'_>) -> fmt::Result + Send + Sync + 'static) -> Box<dyn Collector> {
    struct Written<W>(W);
    impl<W> fmt::Debug for Written<W> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Written")
        }
    }
    impl<W: Fn(&mut Page<'_>) -> fmt::Result + Send + Sync + 'static> Collector for Written<W> {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            (self.0)(&mut Page::new(encoder))
        }
    }
    Box::new(Written(write))
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn names_from_outside_cannot_break_out_of_their_label() {
        let mut registry = Registry::default();
        registry.register_collector(collected(|page| {
            page.gauge("pool_bytes", "Size", 4096.0)?;
            page.gauges("volume_bytes", "Size", [(vec![("volume", "a\"} 1\n\\x")], 1.0)])?;
            page.gauges("nothing", "No samples", [])
        }));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("pool_bytes 4096.0\n"), "{text}");
        assert!(text.contains("volume_bytes{volume=\"a\\\"} 1\\n\\\\x\"} 1.0\n"), "{text}");
        assert!(!text.contains("nothing"), "{text}");
    }
}
