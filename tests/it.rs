//! All integration tests in one binary. Families: the 36 recorded records one by one; random logs against an
//! independent fold at every epoch; decoding, case by case; the HTTP surface through a real socket; style.

mod support;

mod decode;
mod http;
mod kafka;
mod property;
mod samples;
mod tidy;
