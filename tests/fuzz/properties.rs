//! What must hold for any bytes: shared by the fuzz targets and the replay of their corpus.

use tarn::decode::{Decoded, Decoder, Limits};
use tarn::model::{Coordinates, Topics};
use tarn::published::{ConsistencyToken, Filter, PageToken, TokenKey};
use tarn::source::{BufferPool, RecordBatch, Span, line};

fn here() -> Coordinates {
    let topic = Topics::default().intern("fuzz").expect("room for one");
    Coordinates { topic, partition: 0, offset: 1 }
}

/// A verdict without what differs between two ways to the same one.
fn shown(decoded: &Decoded) -> String {
    format!("{decoded:?}")
}

/// Decodes every record of a batch twice with one decoder and once with a fresh one: the same comes out, and a reject
/// says why.
fn decode_all(batch: &RecordBatch) {
    let mut decoder = Decoder::new(Limits::default());
    for record in batch.iter() {
        let cold = decoder.decode(&record);
        let warm = decoder.decode(&record);
        assert_eq!(shown(&cold), shown(&warm), "a schema that was seen changes no verdict");
        assert_eq!(shown(&cold), shown(&Decoder::new(Limits::default()).decode(&record)));
        if let Decoded::Reject(reject) = &cold {
            assert!(!reject.detail.is_empty());
        }
    }
}

/// A record: the lines are key, header `operation`, header `id`; the rest is the value. A line that is `-` stands for
/// null, one that is empty for none of that name.
pub fn record(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let or_null = |bytes: &'static [u8], part: &[u8]| (part != bytes).then(|| part.to_vec());
    let (key, operation, id, value) = (part(), part(), part(), part());
    let headers: Vec<(&str, Option<Vec<u8>>)> = [("operation", operation), ("id", id)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, or_null(b"-", value)))
        .collect();
    let headers = headers.iter().map(|(name, value)| (*name, value.as_deref()));
    let mut batch = RecordBatch::new();
    let (key, value) = (or_null(b"-", key), or_null(b"-", value));
    batch.push_wire(here(), 1_795_000_000_000, key.as_deref(), value.as_deref(), headers);
    decode_all(&batch);
}

/// A line of a log, whatever it is.
pub fn log_line(bytes: &[u8]) {
    let span = Span { start: 0, end: u32::try_from(bytes.len()).expect("an input is short") };
    let mut batch = RecordBatch::from_block(bytes.to_vec(), &BufferPool::default());
    match line::frame(bytes) {
        Ok(frame) => {
            assert!(frame.rest_at <= bytes.len());
            batch.push_line_at(here(), frame.timestamp_ms, span, frame.rest_at);
            // The slow road alone must say the same.
            batch.push_line_at(here(), frame.timestamp_ms, span, 0);
        }
        Err(why) => {
            assert!(!why.is_empty());
            batch.push_broken_at(here(), span);
        }
    }
    decode_all(&batch);
    let verdicts: Vec<String> =
        batch.iter().map(|record| shown(&Decoder::new(Limits::default()).decode(&record))).collect();
    assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]), "both roads: {verdicts:?}");
}

/// A token: only what was sealed opens, and opens to what was sealed.
pub fn token(bytes: &[u8]) {
    let key = TokenKey::from_secret("fuzz");
    let filter = Filter::default();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(page) = PageToken::decode(text, &filter, &key) {
        assert_eq!(page.encode(&filter, &key), text);
    }
    if let Ok(token) = ConsistencyToken::decode(text, &key) {
        assert_eq!(token.encode(&key), text);
    }
}
