//! Which names this node answers to.
//!
//! Owns the decision on `Host`: a page in a browser that was made to resolve its own name to 127.0.0.1 (DNS
//! rebinding) still sends its own name. Refuses to know routes.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, Uri, Version};

use crate::problem::{Kind, Problem};

/// What health checks ask. None of it changes anything, and tokens are asked for as ever.
const PROBED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// HTTP-2: only `localhost`, loopback addresses and `allowed` names are answered.
pub(crate) fn check(
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
    allowed: &[String],
) -> Result<(), Problem> {
    let mut given = headers.get_all(HOST).iter();
    let (first, second) = (given.next(), given.next());
    let name = match (uri.authority(), first, second) {
        // The absolute form, as proxies use it, outranks the header (RFC 9112, 3.2.2).
        (Some(authority), _, None) => Some(authority.as_str()),
        (None, Some(value), None) => value.to_str().ok(),
        // HTTP-2: HTTP/1.0 has no Host, and load balancers still check with it. Every browser sends one, so
        // no page is behind this.
        (None, None, None) if version <= Version::HTTP_10 && PROBED.contains(&uri.path()) => return Ok(()),
        (_, _, Some(_)) | (None, None, None) => None,
    };
    let Some(name) = name else {
        return Err(refusal("the request has no usable Host header".to_owned()));
    };
    if is_ours(name, allowed) {
        return Ok(());
    }
    let shown: String = name.chars().take(100).collect();
    Err(refusal(format!("this node does not answer to the host `{shown}`")))
}

fn refusal(detail: String) -> Problem {
    let help = "use http://127.0.0.1 or http://localhost with the node's port, or add the name to `gateway.allowed_hosts`";
    Problem::new(Kind::WrongHost, detail, help)
}

fn is_ours(host: &str, allowed: &[String]) -> bool {
    let name = without_port(host);
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = address.parse::<IpAddr>()
        && address.is_loopback()
    {
        return true;
    }
    name.eq_ignore_ascii_case("localhost")
        || allowed
            .iter()
            .any(|ours| name.eq_ignore_ascii_case(without_port(ours)) || host.eq_ignore_ascii_case(ours))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && (!name.contains(':') || name.ends_with(']')) => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn verdict(host: &str, allowed: &[&str]) -> bool {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]);
        let allowed: Vec<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        check(Version::HTTP_11, &Uri::from_static("/state/node"), &headers, &allowed).is_ok()
    }

    /// HTTP-2.
    #[test]
    fn loopback_and_allowed_names_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:8091",
            "127.0.0.1",
            "127.0.0.1:8091",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:8091",
            "::1",
        ] {
            assert!(verdict(host, &[]), "{host}");
        }
        assert!(verdict("box.lan:8091", &["box.lan"]));
        assert!(verdict("BOX.lan", &["box.lan"]));
        assert!(verdict("192.168.1.5:8091", &["192.168.1.5"]));
        assert!(verdict("[fd00::5]:8091", &["[fd00::5]"]));
    }

    /// HTTP-2.
    #[test]
    fn other_names_are_refused() {
        for host in [
            "evil.example",
            "evil.example:8091",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.5",
            "[::2]",
            "",
        ] {
            assert!(!verdict(host, &["box.lan"]), "{host}");
        }
        assert!(!verdict("abox.lan", &["box.lan"]));
    }

    #[test]
    fn no_host_and_two_hosts_are_refused() {
        let uri = Uri::from_static("/");
        assert!(check(Version::HTTP_11, &uri, &HeaderMap::new(), &[]).is_err());
        let mut two = HeaderMap::new();
        two.append(HOST, HeaderValue::from_static("localhost"));
        two.append(HOST, HeaderValue::from_static("localhost"));
        assert!(check(Version::HTTP_11, &uri, &two, &[]).is_err());
    }

    /// HTTP-2.
    #[test]
    fn health_checks_of_http_1_0_need_no_host() {
        let ask = |version, path| check(version, &Uri::from_static(path), &HeaderMap::new(), &[]).is_ok();
        for path in ["/healthz", "/readyz", "/metrics", "/healthz?verbose"] {
            assert!(ask(Version::HTTP_10, path), "{path}");
            assert!(!ask(Version::HTTP_11, path), "{path}");
        }
        for path in ["/state/node", "/tokens", "/v1/models", "/healthz/", "/"] {
            assert!(!ask(Version::HTTP_10, path), "{path}");
        }
        // Who names a host is judged by it, in any version.
        let evil = HeaderMap::from_iter([(HOST, HeaderValue::from_static("evil.example"))]);
        assert!(check(Version::HTTP_10, &Uri::from_static("/healthz"), &evil, &[]).is_err());
    }

    #[test]
    fn the_absolute_form_outranks_the_header() {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))]);
        assert!(check(Version::HTTP_11, &Uri::from_static("http://evil.example/"), &headers, &[]).is_err());
        assert!(check(Version::HTTP_11, &Uri::from_static("http://127.0.0.1:8091/"), &headers, &[]).is_ok());
    }
}
