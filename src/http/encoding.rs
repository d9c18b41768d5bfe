//! How the bytes of an answer are packed: as the client's `Accept-Encoding` allows, where it pays.
//!
//! Done where answers are rendered, so that whoever accepts connections is not kept from it; at the cheapest levels, since
//! rows of JSON become a tenth even so. Not here: streams, whose bytes must go out as they come, and answers about one
//! resource, which are small.

use std::io::Write;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::FutureExt;

use super::ApiError;

/// A shorter body is sent as it is, unless the client refuses that.
const PACKED_BYTES_MIN: usize = 1024;
/// The cheapest.
const ZSTD_LEVEL: i32 = 1;

/// A way to pack bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Coding {
    Zstd,
    Gzip,
    Identity,
}

impl Coding {
    /// All of them, the best first.
    const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Identity];

    const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }

    fn is_called(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name()) || self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip")
    }

    /// None where it fails, which in memory it does not.
    fn pack(self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL).ok(),
            Self::Gzip => {
                let mut packed = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
                packed.write_all(bytes).ok()?;
                packed.finish().ok()
            }
            Self::Identity => None,
        }
    }
}

/// What a client lets be done to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Packing {
    coding: Coding,
    /// Whether short answers may be sent as they are.
    takes_identity: bool,
}

impl Packing {
    /// What a client prefers of what there is.
    pub(super) fn accepted(headers: &HeaderMap) -> Result<Self, ApiError> {
        let asked = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let named: Vec<(&str, f32)> = asked.flat_map(|text| text.split(',')).filter_map(coding_and_quality).collect();
        let quality = |coding: Coding| {
            let named_so = |name: &str| named.iter().find(|(known, _)| *known == name).map(|(_, quality)| *quality);
            named.iter().find(|(known, _)| coding.is_called(known)).map(|(_, quality)| *quality).or_else(|| {
                // What is not named is packed for nobody, and all take bytes as they are who do not say otherwise.
                named_so("*").or((coding == Coding::Identity).then_some(f32::MIN_POSITIVE))
            })
        };
        let acceptable = |coding: Coding| quality(coding).filter(|quality| *quality > 0.0);
        let best = Coding::ALL.into_iter().filter_map(|coding| Some((acceptable(coding)?, coding)));
        // Of equals the first, which is the best.
        let best = best.reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((_, coding)) = best else {
            let there_is = Coding::ALL.map(Coding::name).join(", ");
            let message = format!("nothing that `Accept-Encoding` allows can be written; there is {there_is}");
            return Err(ApiError::NotAcceptable(message));
        };
        Ok(Self { coding, takes_identity: acceptable(Coding::Identity).is_some() })
    }

    /// The same answer, packed where it pays. For a body that is all there.
    pub(super) fn pack(self, response: Response) -> Response {
        let (mut parts, body) = response.into_parts();
        // No cache gives one client what was packed for another one.
        parts.headers.entry(header::VARY).or_insert(HeaderValue::from_static("accept-encoding"));
        let bytes = whole(body);
        let is_worth_it = bytes.len() >= PACKED_BYTES_MIN || !self.takes_identity;
        let packed = Some(bytes.as_ref()).filter(|_| is_worth_it).and_then(|bytes| self.coding.pack(bytes));
        let Some(packed) = packed.filter(|packed| packed.len() < bytes.len() || !self.takes_identity) else {
            return Response::from_parts(parts, Body::from(bytes));
        };
        parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(self.coding.name()));
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(packed.len()));
        Response::from_parts(parts, Body::from(packed))
    }
}

/// The bytes of a body that was made of some.
pub(super) fn whole(body: Body) -> Bytes {
    let bytes = to_bytes(body, usize::MAX).now_or_never();
    bytes.and_then(Result::ok).expect("what was rendered is all there")
}

/// A coding as it is named, and how much it is wanted; none where nothing stands between two commas.
fn coding_and_quality(text: &str) -> Option<(&str, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let coding = parts.next().filter(|coding| !coding.is_empty())?;
    let quality = |part: &str| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| {
            let quality = value.trim().parse().ok().filter(|quality| (0.0..=1.0).contains(quality));
            quality.unwrap_or(0.0)
        })
    };
    Some((coding, parts.find_map(quality).unwrap_or(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<(Coding, bool), ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, text.parse().unwrap());
        Packing::accepted(&headers).map(|packing| (packing.coding, packing.takes_identity))
    }

    #[test]
    fn a_client_gets_what_it_prefers() {
        use Coding::{Gzip, Identity, Zstd};
        assert_eq!(Packing::accepted(&HeaderMap::new()).unwrap().coding, Identity);
        for (text, expected) in [
            ("", (Identity, true)),
            ("gzip, deflate, br", (Gzip, true)),
            ("gzip, deflate, br, zstd", (Zstd, true)),
            ("GZIP;q=1.0, zstd;q=0.5", (Gzip, true)),
            ("x-gzip", (Gzip, true)),
            ("br", (Identity, true)),
            ("*", (Zstd, true)),
            ("zstd;q=0, *;q=0.1", (Gzip, true)),
            ("gzip;q=0.5, identity", (Identity, true)),
            ("gzip;q=0.5, identity;q=0.2", (Gzip, true)),
            ("identity;q=0, gzip", (Gzip, false)),
            ("*;q=0, zstd", (Zstd, false)),
            ("gzip;q=much", (Identity, true)),
            ("gzip;q=0", (Identity, true)),
        ] {
            assert_eq!(asked(text), Ok(expected), "{text:?}");
        }
        for refused in ["identity;q=0", "*;q=0", "br, identity;q=0", "identity;q=0, gzip;q=0, zstd;q=0.0"] {
            assert!(matches!(asked(refused), Err(ApiError::NotAcceptable(_))), "{refused}");
        }
    }
}
