//! Histograms by labels, whose series can be given up.
//!
//! Owns the map from labels to histogram. (`Family` of prometheus-client cannot give up series by a rule.)

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What a family is called, says and distinguishes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Upper bounds, in the name's unit.
    pub(super) buckets: &'static [f64],
}

/// One family of histograms.
#[derive(Debug)]
pub(super) struct Histograms<L> {
    about: Described,
    series: RwLock<HashMap<L, Histogram>>,
}

impl<L> Histograms<L>
where
    L: Clone + Eq + Hash + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static,
{
    pub(super) fn registered(registry: &mut Registry, about: Described) -> Arc<Self> {
        let this = Arc::new(Self { about, series: RwLock::default() });
        registry.register_collector(Box::new(Arc::clone(&this)));
        this
    }

    /// Counts one span of time.
    pub(super) fn observe(&self, labels: L, span: Duration) {
        let span = span.as_secs_f64();
        if let Some(histogram) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(&labels) {
            histogram.observe(span);
            return;
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series
            .entry(labels)
            .or_insert_with(|| Histogram::new(self.about.buckets.iter().copied()))
            .observe(span);
    }

    /// Gives up the series whose labels are not to be kept.
    pub(super) fn retain(&self, keep: impl Fn(&L) -> bool) {
        self.series.write().unwrap_or_else(PoisonError::into_inner).retain(|labels, _| keep(labels));
    }
}

impl<L> Collector for Histograms<L>
where
    L: Clone + Eq + Hash + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            return Ok(());
        }
        let mut family =
            encoder.encode_descriptor(self.about.name, self.about.help, None, MetricType::Histogram)?;
        for (labels, histogram) in &*series {
            histogram.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}
