//! Files of text that somebody put into a folder: read if they are files of text and no longer than they may be.
//!
//! What else can have a name in a folder (a pipe, a device, a socket, a folder) is refused without waiting for it. A mark of
//! byte order at the beginning is no part of the text.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// What editors of some systems begin a text with.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a file of at most so many bytes.
pub fn read(path: &Path, bytes_max: usize) -> Result<String> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(refused(format!("it has more than {bytes_max} bytes, which are allowed")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        refused(format!("it is not UTF-8 after its first {valid} bytes"))
    })?;
    Ok(text.strip_prefix(BYTE_ORDER_MARK).map(str::to_owned).unwrap_or(text))
}

/// Opens a file if it is one. It is looked at before it is opened, since opening may already have an effect, and again
/// afterwards, since it may have become something else.
fn open(path: &Path) -> Result<File> {
    let check = |is_file: bool| if is_file { Ok(()) } else { Err(refused("it is not a regular file".to_owned())) };
    check(std::fs::metadata(path)?.is_file())?;
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    check(file.metadata()?.is_file())?;
    Ok(file)
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_text_are_read_and_not_too_long_ones() {
        let folder = tempfile::tempdir().expect("room");
        let path = folder.path().join("a.sql");
        let said = |content: &[u8]| {
            std::fs::write(&path, content).expect("room");
            read(&path, 8).map_err(|error| error.to_string())
        };
        assert_eq!(said(b"SELECT 1"), Ok("SELECT 1".to_owned()));
        assert_eq!(said("\u{feff}abc".as_bytes()), Ok("abc".to_owned()));
        assert_eq!(said(b"SELECT 10"), Err("it has more than 8 bytes, which are allowed".to_owned()));
        assert_eq!(said(b"ab\xff"), Err("it is not UTF-8 after its first 2 bytes".to_owned()));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("room");
        std::fs::write(&path, b"abc").expect("room");
        assert_eq!(read(&link, 8).expect("a link to a file"), "abc");
        let no_file = |path: &Path| read(path, 8).expect_err("no file").to_string();
        assert_eq!(no_file(folder.path()), "it is not a regular file");
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        assert_eq!(no_file(&pipe), "it is not a regular file");
    }
}
