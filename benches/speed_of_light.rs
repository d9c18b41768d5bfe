//! How fast a log can be read and parsed when nothing is done with it: the reference of `ingest`.
//!
//! `cargo bench --bench speed_of_light`; `TARN_BENCH_EVENTS` and `TARN_BENCH_THREADS` change its size.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use support::reference::{Depth, read};
use support::{ingest_log, median, print_table, setting, spend};

fn main() {
    let (path, events) = ingest_log();
    let threads = setting("TARN_BENCH_THREADS", 2);
    let rounds = setting("TARN_BENCH_ROUNDS", 3);
    let depths = [
        ("find lines", Depth::Lines),
        ("parse all but the schema", Depth::SkippingSchema),
        ("parse everything (speed of light)", Depth::Everything),
    ];
    let mut rates = vec![Vec::new(); depths.len()];
    let mut micros = vec![Vec::new(); depths.len()];
    for _ in 0..rounds {
        for (index, (_, depth)) in depths.iter().enumerate() {
            let spent = spend(|| assert_eq!(read(&path, threads, *depth), events));
            rates[index].push(events as f64 / spent.wall.as_secs_f64());
            micros[index].push(spent.cpu.as_secs_f64() * 1e6 / events as f64);
        }
    }
    let light = median(rates[2].clone());
    let rows: Vec<Vec<String>> = depths
        .iter()
        .zip(rates.into_iter().zip(micros))
        .map(|((name, _), (rates, micros))| {
            let rate = median(rates);
            let ratio = format!("{:.2}", rate / light);
            vec![(*name).to_owned(), format!("{rate:.0}"), format!("{:.2}", median(micros)), ratio]
        })
        .collect();
    let title = format!("speed_of_light: {events} records, {threads} threads, median of {rounds}");
    print_table(&title, &["what", "records/s", "CPU µs a record", "ratio"], &rows);
}
