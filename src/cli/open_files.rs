//! How many connections there may be, by the descriptors that the process may have.
//!
//! Readers must not be able to use up what operators, Kafka and files need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tarn::config::HttpSection;
use tarn::http::server::Caps;

/// Kept from readers, where there are so many.
const RESERVED: usize = 256;
/// Of those, for operators.
const OPERATORS_MAX: usize = 64;
/// More than anybody asks for.
const WANTED_MAX: u64 = 1 << 20;

/// The caps of the readers' and of the operators' listener.
pub(super) fn caps(http: &HttpSection) -> (Caps, Caps) {
    let open_max = raise();
    let (readers, operators) = shares(http.connections_max, open_max);
    if readers < http.connections_max {
        let asked = http.connections_max;
        tracing::warn!(asked, open_files_max = open_max, allowed = readers, "`http.connections_max` is capped");
    }
    let per_address = http.connections_per_address_max.min(readers);
    (
        Caps { connections_max: readers, connections_per_address_max: per_address },
        Caps { connections_max: operators, connections_per_address_max: operators },
    )
}

/// How many of `open_max` descriptors readers and operators get.
fn shares(asked: usize, open_max: usize) -> (usize, usize) {
    let reserved = RESERVED.min(open_max / 2);
    (asked.min(open_max - reserved).max(1), OPERATORS_MAX.min(reserved / 2).max(1))
}

/// Raises the soft limit as far as it goes; the limit then.
fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(WANTED_MAX).min(WANTED_MAX);
    let now = limit.current.unwrap_or(u64::MAX);
    if now >= wanted {
        return usize::try_from(now).unwrap_or(usize::MAX);
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    let allowed = match raised {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, now, wanted, "could not raise the limit of open files");
            now
        }
    };
    usize::try_from(allowed).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn operators_and_files_keep_their_share() {
        assert_eq!(shares(10_000, 1 << 20), (10_000, 64));
        assert_eq!(shares(10_000, 1_024), (768, 64));
        assert_eq!(shares(10_000, 64), (32, 16));
        assert_eq!(shares(10, 64), (10, 16));
    }
}
