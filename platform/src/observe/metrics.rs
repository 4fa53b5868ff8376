//! Numbers for Prometheus, taken when they are asked for.
//!
//! What counts keeps its own counts, in whatever form suits it; here it only says, at each scrape, what they are. The text
//! is OpenMetrics 1.0.

use core::cell::RefCell;
use std::rc::Rc;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::executor::Handle;
use crate::http::Statistics;
use crate::memory::MemoryUse;
use crate::net::{Stack, TcpCounters};
use crate::storage::Storage;
use crate::tls::Identities;

/// The numbers of one scrape, being gathered.
pub struct Sample {
    registry: Registry,
}

impl Sample {
    /// A number that only grows. `name` has no `_total`; it is added.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.registry.register(name, help, ConstCounter::new(value));
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.registry.register(name, help, ConstGauge::new(value));
    }

    /// Numbers of one kind that only grow, told apart by a label. The values of the label are ours, never a peer's.
    pub fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) {
        let family =
            Family::<[(&'static str, String); 1], prometheus_client::metrics::counter::Counter>::default();
        for (value, count) in values {
            family.get_or_create(&[(label, value.to_owned())]).inc_by(count);
        }
        self.registry.register(name, help, family);
    }

    /// Numbers of one kind that go up and down, told apart by a label.
    pub fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'v str, i64)>,
    ) {
        let family = Family::<[(&'static str, String); 1], Gauge>::default();
        for (value, count) in values {
            family.get_or_create(&[(label, value.to_owned())]).set(count);
        }
        self.registry.register(name, help, family);
    }
}

/// Gives numbers when asked. Any `Fn(&mut Sample)` is one.
pub trait Source {
    /// Says the numbers as they are now.
    fn collect(&self, sample: &mut Sample);
}

impl<F: Fn(&mut Sample)> Source for F {
    fn collect(&self, sample: &mut Sample) {
        self(sample);
    }
}

/// Everything that gives numbers. Clones share it.
#[derive(Clone, Default)]
pub struct Metrics {
    sources: Rc<RefCell<Vec<Box<dyn Source>>>>,
}

impl Metrics {
    /// The numbers that every image has: uptime, memory, tasks, panics.
    #[must_use]
    pub fn of_image(handle: &Handle, memory: impl Fn() -> MemoryUse + 'static) -> Self {
        let metrics = Self::default();
        let handle = handle.clone();
        metrics.add(move |sample: &mut Sample| {
            let uptime = handle.now().since(crate::device::Instant::START);
            sample.gauge("uptime_seconds", "Time since the image started", uptime.as_secs_f64());
            let MemoryUse { allocated, limit } = memory();
            sample.gauge("memory_allocated_bytes", "Memory in use", allocated as f64);
            sample.gauge("memory_limit_bytes", "Memory there is", limit as f64);
            sample.gauge("tasks", "Tasks of the executor", handle.tasks() as f64);
            sample.counter("task_panics", "Tasks that panicked and were dropped", handle.panics());
        });
        metrics
    }

    /// Asks `source` as well from now on.
    pub fn add(&self, source: impl Source + 'static) {
        self.sources.borrow_mut().push(Box::new(source));
    }

    /// The numbers of an HTTP server.
    pub fn add_http(&self, statistics: &Rc<Statistics>) {
        let statistics = Rc::clone(statistics);
        self.add(move |sample: &mut Sample| {
            let s = &*statistics;
            sample.gauge("http_connections", "Connections open", s.connections.get() as f64);
            sample.counter("http_accepted", "Connections accepted", s.accepted.get());
            sample.counter("http_refused", "Connections refused: too many", s.refused.get());
            sample.counter("http_requests", "Requests handled", s.requests.get());
            let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
            let responses = classes.into_iter().zip(s.responses.iter().map(crate::http::Count::get));
            sample.counters("http_responses", "Responses by class of status", "class", responses);
            sample.counter("http_panics", "Handlers that panicked", s.panics.get());
            let ended = [
                ("slow_head", s.slow_heads.get()),
                ("slow_reader", s.slow_readers.get()),
                ("idle", s.idle.get()),
                ("broken", s.broken.get()),
            ];
            sample.counters("http_ended", "Connections ended, by reason", "reason", ended);
        });
    }

    /// The numbers of a network stack.
    pub fn add_network(&self, stack: &Stack) {
        let stack = stack.clone();
        self.add(move |sample: &mut Sample| {
            let c = stack.counters();
            let direction = |received, sent| [("received", received), ("sent", sent)];
            sample.counters(
                "network_frames",
                "Ethernet frames",
                "direction",
                direction(c.frames_received, c.frames_sent),
            );
            sample.counters(
                "network_bytes",
                "Bytes of Ethernet frames",
                "direction",
                direction(c.bytes_received, c.bytes_sent),
            );
            let dropped = [
                ("malformed", c.malformed),
                ("checksum", c.checksum_errors),
                ("martian", c.martians),
                ("not_for_us", c.not_for_us),
                ("unsupported", c.unsupported),
                ("no_route", c.no_route),
                ("transmit_queue_full", c.transmit_queue_full),
                ("neighbor_unreachable", c.neighbor_unreachable),
                ("too_big", c.too_big),
                ("reassembly", c.reassembly_failed),
            ];
            sample.counters("network_dropped", "Packets dropped, by reason", "reason", dropped);
            let datagrams = direction(c.udp_received, c.udp_sent);
            sample.counters("udp_datagrams", "UDP datagrams", "direction", datagrams);
            let icmp = direction(c.icmp_errors_received, c.icmp_errors_sent);
            sample.counters("icmp_errors", "ICMP errors", "direction", icmp);
            tcp(sample, &stack.tcp_counters());
        });
    }

    /// The numbers of a storage.
    pub fn add_storage(&self, storage: &Storage) {
        let storage = storage.clone();
        self.add(move |sample: &mut Sample| {
            let s = storage.statistics();
            sample.counter("storage_commits", "Groups of changes committed", s.groups);
            sample.counter("storage_changes", "Changes made", s.changes);
            sample.counter("storage_flushes", "Flushes of the device", s.flushes);
            sample.counter("storage_written_bytes", "Bytes written to the device", s.bytes_written);
            sample.counter("storage_stalls", "Times that a full cache held up the image", s.stalls);
            sample.gauge("storage_length_bytes", "Length of the database", s.length as f64);
        });
    }

    /// When the certificate in use expires.
    pub fn add_identities(&self, identities: &Identities) {
        let identities = identities.clone();
        self.add(move |sample: &mut Sample| {
            let expires = identities.current().expires().as_secs_f64();
            sample.gauge(
                "certificate_expiry_seconds",
                "When the certificate expires, in POSIX time",
                expires,
            );
        });
    }

    /// All numbers as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut sample = Sample { registry: Registry::default() };
        self.sources.borrow().iter().for_each(|source| source.collect(&mut sample));
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &sample.registry);
        text
    }
}

fn tcp(sample: &mut Sample, c: &TcpCounters) {
    sample.gauge("tcp_connections", "Connections, TIME-WAIT included", c.flows as f64);
    sample.gauge("tcp_buffer_bytes", "Bytes of socket buffers", c.buffer_bytes as f64);
    let opened = [("peer", c.accepted), ("image", c.connected)];
    sample.counters("tcp_opened", "Connections opened", "by", opened);
    let cookies = [("sent", c.cookies_sent), ("accepted", c.cookies_accepted)];
    sample.counters("tcp_cookies", "Handshakes without state", "step", cookies);
    let resets = [("received", c.resets_received), ("sent", c.resets_sent)];
    sample.counters("tcp_resets", "Resets", "direction", resets);
    sample.counter("tcp_retransmitted", "Segments sent again", c.retransmitted);
    sample.counter("tcp_timed_out", "Connections ended by a timeout", c.timed_out);
    sample.counter("tcp_folded", "Times that an idle connection gave its buffers back", c.folded);
    let dropped = [
        ("limit", c.refused),
        ("malformed", c.malformed),
        ("challenged", c.challenge_acks),
        ("icmp_unrelated", c.icmp_ignored),
    ];
    sample.counters("tcp_dropped", "Segments not taken, by reason", "reason", dropped);
}
