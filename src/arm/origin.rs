//! Origins: scheme, host and port under which the service answers, and with which its links begin.
//!
//! Every URL that the service hands out has the origin that the caller asked, so that clients which compare the two (MSAL
//! compares a token issuer with its authority) and clients behind proxies can follow it. Which origins may be asked is an
//! allow-list: a DNS name that an attacker points at the service is not on it.

use core::net::{IpAddr, SocketAddr};
use std::{fmt, str::FromStr};

use http::{
    HeaderMap, Uri,
    header::{self, HeaderName},
    uri::Authority,
};

/// Headers that proxies add. A request with one of them may come from any machine.
const FORWARDED: [HeaderName; 2] = [header::FORWARDED, HeaderName::from_static("x-forwarded-for")];

/// A scheme, a host and a port, such as `https://fleet.example.com:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    text: String,
    host: String,
    port: u16,
}

/// A public URL is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a URL like https://fleet.example.com, without a path")]
pub struct NotAnOrigin;

impl Origin {
    /// The origin of `scheme` at an authority (`host` or `host:port`), in lower case; `None` for what is no host and port.
    fn of(scheme: &str, authority: &str) -> Option<Self> {
        let authority: Authority = authority.to_ascii_lowercase().parse().ok()?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".:-[]_".contains(&byte);
        if authority.host().is_empty() || !authority.as_str().bytes().all(allowed) {
            return None;
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().ok()?,
            None if authority.as_str() != authority.host() => return None,
            None if scheme == "https" => 443,
            None => 80,
        };
        Some(Self { text: format!("{scheme}://{authority}"), host: authority.host().to_owned(), port })
    }

    /// As a URL without a path and without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port, as in the URL.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback_host(&self.host)
    }

    /// Whether what is sent to it is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https://")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| NotAnOrigin)?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or(NotAnOrigin)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(NotAnOrigin);
        }
        uri.authority().and_then(|authority| Self::of(scheme, authority.as_str())).ok_or(NotAnOrigin)
    }
}

/// Whether a host of a URL (an IPv6 address in brackets) is this machine and no other: `localhost` or a loopback address.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || address(host).is_some_and(|address| address.is_loopback())
}

fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

/// Why a request is not answered under the host that it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostRefusal {
    /// Neither host nor port.
    #[error("The host that the request names is no host with a port.")]
    Malformed,
    /// `Host` is there twice, or differs from the target of the request.
    #[error("The request names two hosts.")]
    Ambiguous,
    /// A host that is not on the allow-list.
    #[error("This service does not answer to the host '{0}'. FLEET_PUBLIC_URL lists the names by which it is reached.")]
    Unknown(String),
    /// A proxy passed it on.
    #[error(
        "The request came through a proxy ('{0}'), and this service issues tokens without asking who somebody is \
         (FLEET_AUTH=local): it answers this machine only. Use an OpenID Connect issuer, or FLEET_INSECURE_LOCAL_AUTH=true."
    )]
    Forwarded(HeaderName),
}

/// What to do with hosts that are not on the allow-list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherHosts {
    /// Answer; links lead to the host that was asked while there is no public URL, else to the first public URL. For a service
    /// whose callers bring tokens of another issuer.
    Answer,
    /// Refuse, as a page of an attacker may have come by DNS rebinding. For a service that issues tokens itself.
    Refuse,
    /// Refuse them, and what a proxy passed on.
    RefuseProxiesToo,
}

/// The allow-list.
#[derive(Debug, Clone)]
pub struct Origins {
    scheme: &'static str,
    listen: SocketAddr,
    public: Vec<Origin>,
    others: OtherHosts,
}

impl Origins {
    /// The origins of a service that listens on `listen` and is reached under the URLs `public` as well. `scheme` is that of the
    /// listener.
    #[must_use]
    pub fn new(scheme: &'static str, listen: SocketAddr, public: Vec<Origin>, others: OtherHosts) -> Self {
        Self { scheme, listen, public, others }
    }

    /// The origin of links in answers to nobody in particular: the first public URL, else the listener.
    #[must_use]
    pub fn own(&self) -> Origin {
        if let Some(first) = self.public.first() {
            return first.clone();
        }
        let host = match self.listen.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Origin { text: format!("{}://{host}:{}", self.scheme, self.listen.port()), host, port: self.listen.port() }
    }

    /// The origin that a request asks: the authority of its target (HTTP/2, absolute form), else `Host`.
    ///
    /// # Errors
    /// The refusal, where the request asks for a host that is not served.
    pub fn asked(&self, uri: &Uri, headers: &HeaderMap) -> Result<Origin, HostRefusal> {
        if self.others == OtherHosts::RefuseProxiesToo
            && let Some(name) = FORWARDED.into_iter().find(|name| headers.contains_key(name))
        {
            return Err(HostRefusal::Forwarded(name));
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match hosts.next() {
            Some(value) => Some(value.to_str().map_err(|_| HostRefusal::Malformed)?).filter(|host| !host.is_empty()),
            None => None,
        };
        let target = uri.authority().map(Authority::as_str);
        let differs = host.zip(target).is_some_and(|(host, target)| !host.eq_ignore_ascii_case(target));
        if hosts.next().is_some() || differs {
            return Err(HostRefusal::Ambiguous);
        }
        let Some(asked) = target.or(host) else { return Ok(self.own()) };
        let public = |origin: &&Origin| {
            let scheme = if origin.is_https() { "https" } else { "http" };
            Origin::of(scheme, asked).is_some_and(|asked| (&asked.host, asked.port) == (&origin.host, origin.port))
        };
        let origin = Origin::of(self.scheme, asked).ok_or(HostRefusal::Malformed)?;
        if let Some(known) = self.public.iter().find(public) {
            return Ok(known.clone());
        }
        if self.is_this_machine(&origin.host) {
            return Ok(origin);
        }
        match self.others {
            OtherHosts::Answer if self.public.is_empty() => Ok(origin),
            OtherHosts::Answer => Ok(self.own()),
            OtherHosts::Refuse | OtherHosts::RefuseProxiesToo => Err(HostRefusal::Unknown(origin.host)),
        }
    }

    /// Loopback names and the address that is listened on: nobody else can have a DNS name lead a browser there. A listener on
    /// all addresses takes every address; names stay refused.
    fn is_this_machine(&self, host: &str) -> bool {
        let listens = |ip| self.listen.ip() == ip || self.listen.ip().is_unspecified();
        is_loopback_host(host) || address(host).is_some_and(listens)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn origins(listen: &str, public: &[&str], others: OtherHosts) -> Origins {
        let public = public.iter().map(|url| url.parse().unwrap()).collect();
        Origins::new("http", listen.parse().unwrap(), public, others)
    }

    /// Asked over HTTP/1.1 (`Host`), and over HTTP/2 (`:authority`), which must agree.
    fn asked(origins: &Origins, host: &str) -> Result<String, HostRefusal> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        let first = origins.asked(&Uri::from_static("/"), &headers).map(|origin| origin.to_string());
        if let Ok(uri) = format!("http://{host}/x").parse::<Uri>()
            && uri.authority().is_some_and(|authority| authority.as_str() == host)
        {
            let second = origins.asked(&uri, &HeaderMap::new()).map(|origin| origin.to_string());
            assert_eq!(first, second, "{host}");
        }
        first
    }

    #[test]
    fn a_service_with_tokens_of_its_own_answers_listed_hosts_only() {
        let local = origins("127.0.0.1:8443", &["https://Fleet.Example.com"], OtherHosts::Refuse);
        for (host, origin) in [
            ("127.0.0.1:8443", "http://127.0.0.1:8443"),
            ("LOCALHOST:9", "http://localhost:9"),
            ("localhost", "http://localhost"),
            ("[::1]:8443", "http://[::1]:8443"),
            ("127.9.9.9", "http://127.9.9.9"),
            ("fleet.example.com", "https://fleet.example.com"),
            ("FLEET.example.com:443", "https://fleet.example.com"),
            ("", "https://fleet.example.com"),
        ] {
            assert_eq!(asked(&local, host).unwrap(), origin, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8443",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost.",
            "fleet.example.com:8443",
            "10.0.0.5",
            "[fe80::1]",
            "2130706433",
            "0x7f.1",
        ] {
            assert!(matches!(asked(&local, host), Err(HostRefusal::Unknown(_))), "{host}");
        }
        for host in
            ["user@localhost", "localhost/x", "localhost#x", "a, b", "localhost:", "localhost:99999", "[::1", ":80"]
        {
            assert_eq!(asked(&local, host), Err(HostRefusal::Malformed), "{host}");
        }
    }

    #[test]
    fn all_addresses_are_this_machines_when_it_listens_on_all() {
        let open = origins("0.0.0.0:8443", &[], OtherHosts::Refuse);
        assert_eq!(asked(&open, "10.0.0.5:8443").unwrap(), "http://10.0.0.5:8443");
        assert!(asked(&open, "evil.example").is_err());
        assert_eq!(open.own().as_str(), "http://localhost:8443");
        assert_eq!(origins("[::1]:1", &[], OtherHosts::Refuse).own().as_str(), "http://[::1]:1");
    }

    #[test]
    fn a_service_of_another_issuer_answers_all_and_links_to_listed_hosts() {
        let bare = origins("0.0.0.0:8443", &[], OtherHosts::Answer);
        assert_eq!(asked(&bare, "any.example").unwrap(), "http://any.example");
        let urls = ["https://fleet.example.com", "http://fleet.svc:8443"];
        let named = origins("0.0.0.0:8443", &urls, OtherHosts::Answer);
        assert_eq!(asked(&named, "any.example").unwrap(), urls[0]);
        assert_eq!(asked(&named, "fleet.svc:8443").unwrap(), urls[1]);
        assert_eq!(asked(&named, "localhost:8443").unwrap(), "http://localhost:8443");
    }

    #[test]
    fn two_hosts_are_refused() {
        let local = origins("127.0.0.1:1", &[], OtherHosts::Answer);
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        let target = Uri::from_static("http://evil.example/");
        assert_eq!(local.asked(&target, &headers), Err(HostRefusal::Ambiguous));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert_eq!(local.asked(&Uri::from_static("/"), &headers), Err(HostRefusal::Ambiguous));
    }

    #[test]
    fn what_a_proxy_passed_on_is_refused_where_tokens_are_free() {
        for name in FORWARDED {
            let mut headers = HeaderMap::new();
            headers.insert(&name, HeaderValue::from_static("1.2.3.4"));
            let ask = |others| origins("127.0.0.1:1", &[], others).asked(&Uri::from_static("/"), &headers);
            assert_eq!(ask(OtherHosts::RefuseProxiesToo), Err(HostRefusal::Forwarded(name.clone())));
            assert!(ask(OtherHosts::Refuse).is_ok());
        }
    }

    #[test]
    fn public_urls_are_origins() {
        for url in ["https://h", "https://h/", "http://h:8443", "https://[::1]:1"] {
            assert!(url.parse::<Origin>().is_ok(), "{url}");
        }
        for url in ["h", "h:1", "ftp://h", "https://h/path", "https://h?x", "https://u@h", "https://", "", "https://h:"]
        {
            assert!(url.parse::<Origin>().is_err(), "{url}");
        }
    }
}
