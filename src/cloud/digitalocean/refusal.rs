//! What a refusal means. Pure.

use http::StatusCode;
use serde::Deserialize;

use super::transport::Call;
use crate::cloud::{Catalogue, CreateVm, code};
use crate::outside::OutsideError;

/// The API's own code for almost everything it refuses.
pub(super) const UNPROCESSABLE: &str = "unprocessable_entity";

/// How many alternatives a message names.
const ALTERNATIVES: usize = 8;

/// The most of the API's own words that a message repeats.
const MESSAGE: usize = 300;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    id: String,
    message: String,
}

/// The outcome of a call that was answered with `status`, which is neither a success nor 404 nor 429.
pub(super) fn of_status(call: &Call, status: StatusCode, body: &[u8]) -> OutsideError {
    match status {
        StatusCode::UNAUTHORIZED => OutsideError::Unauthorized(
            "DigitalOcean does not accept the token: it is wrong, expired or revoked; put a valid one into the Secret"
                .to_owned(),
        ),
        StatusCode::FORBIDDEN => OutsideError::Forbidden(format!(
            "DigitalOcean does not let this token {call}: it needs {}",
            scopes(call.scopes)
        )),
        StatusCode::REQUEST_TIMEOUT => call.broken("was given up by the server"),
        _ if status.is_client_error() => refused(status, body),
        _ => call.broken(&format!("failed with status {}", status.as_u16())),
    }
}

fn scopes(scopes: &str) -> String {
    let word = if scopes.contains(" and ") { "scopes" } else { "scope" };
    format!("the {word} {scopes}")
}

fn refused(status: StatusCode, body: &[u8]) -> OutsideError {
    let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let message: String = body.message.chars().filter(|c| !c.is_control()).take(MESSAGE).collect();
    let lower = message.to_lowercase();
    let code = if lower.contains("droplet limit") {
        code::DROPLET_LIMIT
    } else if lower.contains("pending event") {
        code::PENDING_EVENT
    } else if body.id.is_empty() {
        status.as_str()
    } else {
        &body.id
    };
    let message = match code {
        code::DROPLET_LIMIT => "the DigitalOcean account has as many droplets as it may have: delete some, or ask \
                                DigitalOcean to raise the limit"
            .to_owned(),
        _ if message.is_empty() => format!("DigitalOcean answered with status {}", status.as_u16()),
        _ => format!("DigitalOcean: {message}"),
    };
    OutsideError::Refused { code: code.to_owned(), message }
}

/// Which of size, region and image a create was refused for. Without a catalogue the API's own words decide.
pub(super) fn of_create(wanted: &CreateVm, message: String, catalogue: Option<&Catalogue>) -> OutsideError {
    let (code, message) = catalogue
        .and_then(|catalogue| by_catalogue(wanted, catalogue))
        .unwrap_or_else(|| (by_words(&message), message));
    OutsideError::Refused { code: code.to_owned(), message }
}

fn by_words(message: &str) -> &'static str {
    let lower = message.to_lowercase();
    if !lower.contains("invalid") {
        return UNPROCESSABLE;
    }
    let words: [(&str, &str); 3] =
        [("size", code::UNKNOWN_SIZE), ("region", code::UNKNOWN_REGION), ("image", code::UNKNOWN_IMAGE)];
    words.iter().find(|(word, _)| lower.contains(word)).map_or(UNPROCESSABLE, |(_, code)| code)
}

fn by_catalogue(wanted: &CreateVm, catalogue: &Catalogue) -> Option<(&'static str, String)> {
    let CreateVm { region, size, image, .. } = wanted;
    let regions = || choice(catalogue.regions.iter().filter(|r| r.available).map(|r| r.slug.as_str()));
    let here = |regions: &[String]| regions.contains(region);
    let offered = || catalogue.sizes.iter().filter(|size| size.available && here(&size.regions));
    let sizes = || choice(offered().map(|size| size.slug.as_str()));

    let Some(the_region) = catalogue.regions.iter().find(|known| known.slug == *region) else {
        let message = format!("region `{region}` does not exist at DigitalOcean: choose {}", regions());
        return Some((code::UNKNOWN_REGION, message));
    };
    let Some(the_size) = catalogue.sizes.iter().find(|known| known.slug == *size) else {
        let message = format!("size `{size}` does not exist at DigitalOcean: choose {}", sizes());
        return Some((code::UNKNOWN_SIZE, message));
    };
    let named = |known: &&super::super::Image| known.slug.as_ref() == Some(image) || known.id == *image;
    let Some(the_image) = catalogue.images.iter().find(named) else {
        let slugs = catalogue.images.iter().filter(|known| here(&known.regions)).filter_map(|i| i.slug.as_deref());
        let message = format!("image `{image}` does not exist at DigitalOcean: choose {}", choice(slugs));
        return Some((code::UNKNOWN_IMAGE, message));
    };
    if !the_region.available {
        let message = format!("region `{region}` takes no new droplets at present: wait, or choose {}", regions());
        return Some((code::NOT_OFFERED, message));
    }
    if !the_size.available || !here(&the_size.regions) {
        let message =
            format!("size `{size}` is not offered in region `{region}` at present: wait, or choose {}", sizes());
        return Some((code::NOT_OFFERED, message));
    }
    if !here(&the_image.regions) {
        let message = format!(
            "image `{image}` is not in region `{region}`: transfer it there, or choose one of regions {}",
            the_image.regions.join(", ")
        );
        return Some((code::NOT_OFFERED, message));
    }
    None
}

/// The first few alternatives, in an order that does not change.
fn choice<'a>(slugs: impl Iterator<Item = &'a str>) -> String {
    let mut slugs: Vec<&str> = slugs.collect();
    slugs.sort_unstable();
    slugs.dedup();
    let more = slugs.len().saturating_sub(ALTERNATIVES);
    slugs.truncate(ALTERNATIVES);
    match (slugs.is_empty(), more) {
        (true, _) => "another one".to_owned(),
        (false, 0) => format!("one of {}", slugs.join(", ")),
        (false, _) => format!("one of {} or {more} more", slugs.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::names::{ClusterId, Mark};
    use crate::cloud::{Image, Region, Size};

    fn catalogue() -> Catalogue {
        let text = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let region = |slug: &str, available| Region { slug: slug.to_owned(), available };
        let size =
            |slug: &str, regions: &[&str]| Size { slug: slug.to_owned(), available: true, regions: text(regions) };
        let image = |id: &str, slug: Option<&str>, regions: &[&str]| Image {
            id: id.to_owned(),
            slug: slug.map(str::to_owned),
            regions: text(regions),
        };
        Catalogue {
            regions: vec![region("fra1", true), region("ams3", true), region("nyc2", false)],
            sizes: vec![size("s-1", &["fra1", "ams3", "nyc2"]), size("gpu", &["ams3"])],
            images: vec![image("1", Some("debian-12-x64"), &["fra1", "ams3", "nyc2"]), image("77", None, &["ams3"])],
        }
    }

    fn judged(region: &str, size: &str, image: &str) -> (String, String) {
        let uid = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";
        let wanted = CreateVm {
            name: "web-1-x-1".to_owned(),
            mark: Mark::new(ClusterId::parse("c1").unwrap(), "Node", "shop", "web-1", uid).unwrap(),
            region: region.to_owned(),
            size: size.to_owned(),
            image: image.to_owned(),
            user_data: None,
            vpc_uuid: None,
            tags: Vec::new(),
        };
        match of_create(&wanted, "DigitalOcean: no".to_owned(), Some(&catalogue())) {
            OutsideError::Refused { code, message } => (code, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_catalogue_names_what_was_wrong_and_what_would_be_right() {
        for (order, code, message) in [
            (
                ("fra9", "s-1", "debian-12-x64"),
                code::UNKNOWN_REGION,
                "region `fra9` does not exist at DigitalOcean: choose one of ams3, fra1",
            ),
            (
                ("fra1", "s-9", "debian-12-x64"),
                code::UNKNOWN_SIZE,
                "size `s-9` does not exist at DigitalOcean: choose one of s-1",
            ),
            (
                ("fra1", "s-1", "debian-13"),
                code::UNKNOWN_IMAGE,
                "image `debian-13` does not exist at DigitalOcean: choose one of debian-12-x64",
            ),
            (
                ("fra1", "gpu", "debian-12-x64"),
                code::NOT_OFFERED,
                "size `gpu` is not offered in region `fra1` at present: wait, or choose one of s-1",
            ),
            (
                ("nyc2", "s-1", "debian-12-x64"),
                code::NOT_OFFERED,
                "region `nyc2` takes no new droplets at present: wait, or choose one of ams3, fra1",
            ),
            (
                ("fra1", "s-1", "77"),
                code::NOT_OFFERED,
                "image `77` is not in region `fra1`: transfer it there, or choose one of regions ams3",
            ),
            (("fra1", "s-1", "debian-12-x64"), UNPROCESSABLE, "DigitalOcean: no"),
        ] {
            assert_eq!(judged(order.0, order.1, order.2), (code.to_owned(), message.to_owned()), "{order:?}");
        }
    }

    #[test]
    fn without_a_catalogue_the_words_of_the_api_decide() {
        for (words, code) in [
            ("You specified an invalid size for Droplet creation.", code::UNKNOWN_SIZE),
            ("You specified an invalid region for Droplet creation.", code::UNKNOWN_REGION),
            ("You specified an invalid image for Droplet creation.", code::UNKNOWN_IMAGE),
            ("Size is not available in this region.", UNPROCESSABLE),
        ] {
            assert_eq!(by_words(words), code, "{words}");
        }
    }

    #[test]
    fn a_status_says_whether_anything_may_have_changed() {
        let read = Call::read("/v2/droplets", "droplet:read");
        let write = Call::write(http::Method::POST, "/v2/droplets", "droplet:create and tag:create");
        for status in [500, 502, 503, 504, 408, 302] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(matches!(of_status(&read, status, b""), OutsideError::Unavailable(_)), "{status}");
            assert!(matches!(of_status(&write, status, b""), OutsideError::Unknown(_)), "{status}");
        }
        assert_eq!(
            of_status(&write, StatusCode::FORBIDDEN, b"{}").to_string(),
            "DigitalOcean does not let this token POST /v2/droplets: it needs the scopes droplet:create and tag:create"
        );
        let pending = br#"{"id":"unprocessable_entity","message":"Droplet already has a pending event."}"#;
        let refused = of_status(&write, StatusCode::UNPROCESSABLE_ENTITY, pending);
        assert!(matches!(refused, OutsideError::Refused { code, .. } if code == code::PENDING_EVENT));
    }
}
