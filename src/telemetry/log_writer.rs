//! Where log lines go: a bounded queue and a thread of its own, so that whoever logs never waits.
//!
//! Promises: a line is written whole or not at all; a pipe that hangs costs lines, which are counted, and nothing else;
//! a pipe that is closed costs lines and no panic; [`LogWriter::flush`] waits for what is queued, for a while at most.
//! Not here: what a line looks like (`telemetry`).

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const LINES_MAX: usize = 1_024;
/// A longer line is cut.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// What the thread is told.
enum Order {
    Write(Vec<u8>),
    /// Answered when everything before it was written.
    Flush(Sender<()>),
}

/// The queue's entrance.
#[derive(Debug, Clone)]
pub(super) struct LogWriter {
    orders: Sender<Order>,
    dropped: Arc<AtomicU64>,
}

/// One line under way.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a LogWriter);

impl LogWriter {
    /// A writer to `out`, which may block and fail as it likes.
    pub(super) fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (orders, queue) = bounded(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let seen_by_thread = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("tarn-log".to_owned())
            .spawn(move || write_lines(out, &queue, &seen_by_thread))?;
        Ok(Self { orders, dropped })
    }

    /// Waits until what was logged is written, but not longer than `wait`.
    pub(super) fn flush(&self, wait: Duration) {
        let (done, written) = bounded(1);
        // A pipe that hangs has had its time.
        self.orders.send_timeout(Order::Flush(done), wait).ok().and_then(|()| written.recv_timeout(wait).ok());
    }

    /// Lines that found the queue full.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

impl Write for Line<'_> {
    /// The whole line comes in one call.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut line = bytes[..bytes.len().min(LINE_BYTES_MAX)].to_vec();
        if line.len() < bytes.len() {
            line.extend_from_slice(b"...\n");
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.0.orders.try_send(Order::Write(line)) {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(mut out: impl Write, queue: &Receiver<Order>, dropped: &AtomicU64) {
    let mut told = 0;
    while let Ok(order) = queue.recv() {
        match order {
            Order::Write(line) => drop(out.write_all(&line)),
            Order::Flush(done) => drop((out.flush(), done.send(()))),
        }
        let lost = dropped.load(Ordering::Relaxed);
        if lost > told && queue.is_empty() {
            told = lost;
            tracing::warn!(lost, "log lines were dropped, because nobody took them");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Instant;

    /// Takes nothing until it is let go.
    struct Hung(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Hung {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap_or_default();
            self.1.lock().expect("nobody panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_hung_pipe_costs_lines_and_no_time() {
        let (let_go, hung) = bounded::<()>(0);
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = LogWriter::to(Hung(hung, Arc::clone(&written))).expect("a thread");
        let began = Instant::now();
        for line in 0..LINES_MAX + 100 {
            writer.make_writer().write_all(format!("line {line}\n").as_bytes()).expect("never fails");
        }
        assert!(writer.dropped() >= 99 && writer.dropped() <= 100, "{}", writer.dropped());
        writer.flush(Duration::from_millis(20));
        assert!(began.elapsed() < Duration::from_secs(5));
        drop(let_go);
        writer.flush(Duration::from_secs(10));
        let text = String::from_utf8(written.lock().expect("nobody panics").clone()).expect("UTF-8");
        assert!(text.starts_with("line 0\nline 1\n") && text.lines().count() >= LINES_MAX, "{}", text.lines().count());
    }

    #[test]
    fn a_closed_pipe_is_no_reason_to_stop() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let writer = LogWriter::to(Closed).expect("a thread");
        for _ in 0..10 {
            writer.make_writer().write_all(&vec![b'x'; LINE_BYTES_MAX * 2]).expect("never fails");
            writer.flush(Duration::from_secs(10));
        }
        assert_eq!(writer.dropped(), 0);
    }
}
