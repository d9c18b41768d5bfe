//! The histograms of freshness, as text for Prometheus.
//!
//! They are counted where things happen ([`crate::histogram`]) and not by the recorder of all other metrics: that would
//! keep every sample until somebody asks, and show those of a view for ever after it went.

use std::fmt::Write;

use crate::histogram::{BOUNDS_US, Histogram};
use crate::published::latency::Visible;
use crate::service::Service;

/// Appends them.
pub fn write_histograms(service: &Service, out: &mut String) {
    let (latencies, stages) = (service.publisher.latencies(), &service.counters.stages);
    let help = "How long an event took until it could be read, from the time in its id or from its arrival.";
    begin(out, "tarn_event_visible_seconds", help);
    write_visible(out, "tarn_event_visible_seconds", "", &latencies.visible);
    let help = "How long an event took until a view had it, from the time in its id or from its arrival.";
    begin(out, "tarn_view_event_visible_seconds", help);
    for (view, visible) in latencies.of_views() {
        let label = format!("view=\"{}\",", escaped(&view));
        write_visible(out, "tarn_view_event_visible_seconds", &label, &visible);
    }
    let help = "Where the time goes: poll, tables, views and publish follow one another in an epoch; decode (a batch) and \
                fold (an epoch) are the work of one worker.";
    begin(out, "tarn_stage_seconds", help);
    let stages = [
        ("poll", &stages.poll),
        ("decode", &stages.decode),
        ("fold", &stages.fold),
        ("tables", &latencies.tables),
        ("views", &latencies.views),
        ("publish", &latencies.publish),
    ];
    for (stage, histogram) in stages {
        write(out, "tarn_stage_seconds", &format!("stage=\"{stage}\""), histogram);
    }
}

fn begin(out: &mut String, name: &str, help: &str) {
    // Memory takes any write.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
}

fn write_visible(out: &mut String, name: &str, labels: &str, visible: &Visible) {
    write(out, name, &format!("{labels}since=\"id\""), &visible.since_id);
    write(out, name, &format!("{labels}since=\"arrival\""), &visible.since_arrival);
}

fn write(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let counts = histogram.read();
    for (bound_us, within) in BOUNDS_US.iter().zip(counts.within) {
        let bound = *bound_us as f64 / 1e6;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {within}");
    }
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", counts.count);
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", counts.sum_seconds);
    let _ = writeln!(out, "{name}_count{{{labels}}} {}", counts.count);
}

/// The value of a label: the name of a file may hold anything.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_histogram_is_written_as_prometheus_reads_it() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(2), 3);
        let mut text = String::new();
        write(&mut text, "took", &format!("view=\"{}\"", escaped("a\"b\\c")), &histogram);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), BOUNDS_US.len() + 3);
        assert_eq!(lines[0], "took_bucket{view=\"a\\\"b\\\\c\",le=\"0.0001\"} 0");
        assert!(lines.contains(&"took_bucket{view=\"a\\\"b\\\\c\",le=\"0.0025\"} 3"), "{text}");
        assert!(lines.contains(&"took_bucket{view=\"a\\\"b\\\\c\",le=\"3600\"} 3"), "{text}");
        assert_eq!(lines[BOUNDS_US.len()], "took_bucket{view=\"a\\\"b\\\\c\",le=\"+Inf\"} 3");
        assert_eq!(
            lines[BOUNDS_US.len() + 1..],
            ["took_sum{view=\"a\\\"b\\\\c\"} 0.006", "took_count{view=\"a\\\"b\\\\c\"} 3"]
        );
    }
}
