//! Paging: `page` and `per_page` in, `links.pages` with absolute URLs and `meta.total` out.

use serde::Serialize;

use super::error::ApiError;

const DEFAULT_PER_PAGE: usize = 20;
const MAX_PER_PAGE: usize = 200;

/// The query of a request, decoded, and the URL it was sent to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Scheme, host and mount point, without `/v2`.
    pub(super) base: String,
    /// The full URL without its query.
    pub(super) url: String,
    /// The query as sent, pair by pair.
    pub(super) raw_query: Vec<(String, String)>,
}

/// Which part of a listing is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    number: usize,
    per_page: usize,
}

impl Page {
    /// Reads `page` (from 1) and `per_page` (1 to 200). The real API's treatment of other values is not documented;
    /// they are refused here, so that a client that sends them does not go unnoticed.
    pub(super) fn wanted(page: Option<&str>, per_page: Option<&str>) -> Result<Self, ApiError> {
        let number =
            parse(page, 1, usize::MAX).ok_or_else(|| ApiError::unprocessable("page must be a number of at least 1"))?;
        let per_page = parse(per_page, DEFAULT_PER_PAGE, MAX_PER_PAGE)
            .ok_or_else(|| ApiError::unprocessable("per_page must be between 1 and 200"))?;
        Ok(Self { number, per_page })
    }

    /// The wanted part of `items`; nothing beyond their end.
    pub(super) fn of<T>(self, items: &[T]) -> &[T] {
        let start = (self.number - 1).saturating_mul(self.per_page).min(items.len());
        let end = start.saturating_add(self.per_page).min(items.len());
        items.get(start..end).unwrap_or_default()
    }

    /// The `links` object. Empty if everything fits one page; only links that make sense are set.
    pub(super) fn links(self, total: usize, target: &Target) -> Links {
        let last = total.div_ceil(self.per_page).max(1);
        if last == 1 && self.number == 1 {
            return Links { pages: None };
        }
        let to = |number: usize| Some(self.url(number, target));
        let is_first = self.number == 1;
        let is_last = self.number >= last;
        Links {
            pages: Some(Pages {
                first: if is_first { None } else { to(1) },
                prev: if is_first { None } else { to(self.number - 1) },
                next: if is_last { None } else { to(self.number + 1) },
                last: if is_last { None } else { to(last) },
            }),
        }
    }

    fn url(self, number: usize, target: &Target) -> String {
        let mut url = format!("{}?page={number}&per_page={}", target.url, self.per_page);
        for (name, value) in &target.raw_query {
            if name != "page" && name != "per_page" {
                url.extend(["&", name.as_str(), "=", value.as_str()]);
            }
        }
        url
    }
}

fn parse(value: Option<&str>, default: usize, max: usize) -> Option<usize> {
    let number = value.map_or(Some(default), |text| text.parse().ok())?;
    (1..=max).contains(&number).then_some(number)
}

/// `links` of a listing.
#[derive(Debug, Serialize)]
pub(super) struct Links {
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<Pages>,
}

#[derive(Debug, Serialize)]
struct Pages {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
}

/// `meta` of a listing.
#[derive(Debug, Serialize)]
pub(super) struct Meta {
    pub(super) total: usize,
}
