//! For which site a request is, and from which one it comes.
//!
//! A browser lets any page of any site open a websocket to this machine, so a request that says which page it comes
//! from (`Origin`) must come from ours. That alone would not keep out a site whose name is made to lead to this
//! machine after its page was loaded (DNS rebinding): to the browser that is one and the same origin. But such a
//! request carries the site's name (`Host`), which is none of ours. Programs send no `Origin`, and may come in.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::Authority};

use crate::http::Refusal;

/// Whether the request is for one of our names.
pub(crate) fn check(hosts: &[String], target: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    known_host(hosts, target, headers)?;
    only(headers, header::ORIGIN)?;
    Ok(())
}

/// Whether it also comes from a page of ours, if it comes from a page.
pub(crate) fn check_page(
    hosts: &[String],
    target: &Uri,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let host = known_host(hosts, target, headers)?;
    own_page(host, headers)
}

/// The request's `Host`, if that is an address, which no site can have, or one of our names (`hosts`).
fn known_host<'a>(
    hosts: &[String],
    target: &Uri,
    headers: &'a HeaderMap,
) -> Result<&'a str, Refusal> {
    let bad = |reason: String| (StatusCode::BAD_REQUEST, reason);
    let host = only(headers, header::HOST)?;
    let host = host.ok_or_else(|| bad("expected a Host header, found none\n".to_owned()))?;
    let host = host.to_str().unwrap_or_default();
    let authority: Option<Authority> = host.parse().ok();
    // What stands before an `@` is not part of a host.
    let authority = authority.filter(|it| !it.as_str().contains('@'));
    let authority = authority.ok_or_else(|| bad(format!("not a host: {host:?}\n")))?;
    if let Some(target) = target.authority().filter(|it| **it != authority) {
        let target = target.as_str();
        return Err(bad(format!(
            "a request to {target:?} has the host {host:?}\n"
        )));
    }
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_known = address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|host| name.eq_ignore_ascii_case(host));
    if is_known {
        return Ok(host);
    }
    let reason = format!("unknown host {host:?}; --host adds a name\n");
    Err((StatusCode::MISDIRECTED_REQUEST, reason))
}

/// The page that opens the websocket, if it is a page that does, is the one that this host has served.
fn own_page(host: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = only(headers, header::ORIGIN)? else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let site = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    if site.is_some_and(|site| site.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    let reason = format!("a page of {origin:?} may not connect to {host:?}\n");
    Err((StatusCode::FORBIDDEN, reason))
}

/// The header of this name. A request with several of them is refused: whoever is in between may go by another one of
/// them than we do.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&HeaderValue>, Refusal> {
    let mut all = headers.get_all(&name).iter();
    let first = all.next();
    match all.count() {
        0 => Ok(first),
        more => {
            let reason = format!("expected one {name} header, found {}\n", more + 1);
            Err((StatusCode::BAD_REQUEST, reason))
        }
    }
}
