//! Decides whether a certificate is made out to the host, by libpq's rules for `sslmode=verify-full`.
//!
//! Pure. libpq differs from the rules of the web: a certificate without alternative names of the host's kind is judged by
//! its common name, and an address may also be written as a DNS name. Whether the certificate is to be believed at all
//! is decided elsewhere, in `tls`.

use std::net::IpAddr;

use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::CN;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::names::listed;

/// Why a certificate does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misfit {
    #[error("the server's certificate cannot be read")]
    Unreadable,
    #[error("the server's certificate names no host")]
    Nameless,
    #[error("the server's certificate is for {} and not for `{host}`", listed(.names))]
    OtherName { host: String, names: Vec<String> },
}

/// Checks that the certificate (DER) is made out to `host`.
pub(super) fn check(certificate: &[u8], host: &str) -> Result<(), Misfit> {
    let certificate = Certificate::from_der(certificate).map_err(|_| Misfit::Unreadable)?;
    let alternatives = certificate
        .tbs_certificate
        .get::<SubjectAltName>()
        .map_err(|_| Misfit::Unreadable)?;
    let alternatives = alternatives.map(|(_, names)| names.0).unwrap_or_default();
    let address = host.parse::<IpAddr>().ok();

    let mut names = Vec::new();
    let mut of_the_hosts_kind = false;
    for name in &alternatives {
        match name {
            GeneralName::DnsName(name) => {
                of_the_hosts_kind |= address.is_none();
                if name_fits(name.as_str(), host) {
                    return Ok(());
                }
                names.push(name.to_string());
            }
            GeneralName::IpAddress(bytes) => {
                of_the_hosts_kind |= address.is_some();
                let named = to_address(bytes.as_bytes());
                if named.is_some() && named == address {
                    return Ok(());
                }
                names.extend(named.map(|named| named.to_string()));
            }
            _ => {}
        }
    }
    if let Some(name) = common_name(&certificate).filter(|_| !of_the_hosts_kind) {
        if name_fits(&name, host) {
            return Ok(());
        }
        names.push(name);
    }
    match names.is_empty() {
        true => Err(Misfit::Nameless),
        false => Err(Misfit::OtherName {
            host: host.to_owned(),
            names,
        }),
    }
}

/// Returns whether `pattern` stands for `host`: the same, or `*.` and everything behind the host's first label.
fn name_fits(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return !pattern.is_empty();
    }
    let (Some(domain), Some((_, parent))) = (pattern.strip_prefix("*."), host.split_once('.')) else {
        return false;
    };
    !domain.is_empty() && host.parse::<IpAddr>().is_err() && domain.eq_ignore_ascii_case(parent)
}

fn to_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Returns the last common name of the subject, as OpenSSL does for libpq.
fn common_name(certificate: &Certificate) -> Option<String> {
    let mut parts = certificate
        .tbs_certificate
        .subject
        .0
        .iter()
        .flat_map(|part| part.0.iter());
    let value = &parts.rfind(|part| part.oid == CN)?.value;
    match value.tag() {
        Tag::PrintableString => value
            .decode_as::<PrintableStringRef<'_>>()
            .ok()
            .map(|name| name.to_string()),
        Tag::TeletexString => value
            .decode_as::<TeletexStringRef<'_>>()
            .ok()
            .map(|name| name.to_string()),
        _ => value.decode_as::<Utf8StringRef<'_>>().ok().map(|name| name.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(common_name: &str, dns: &[&str], addresses: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !common_name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.subject_alt_names = dns
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().unwrap()))
            .collect();
        params
            .subject_alt_names
            .extend(addresses.iter().map(|text| SanType::IpAddress(text.parse().unwrap())));
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_fit_or_do_not() {
        type Names<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);
        let cases: &[(Names, &str, bool)] = &[
            (("db.example.org", &[], &[]), "db.example.org", true),
            (("db.example.org", &[], &[]), "DB.Example.Org", true),
            (("db.example.org", &[], &[]), "other.example.org", false),
            (("*.example.org", &[], &[]), "db.example.org", true),
            (("*.example.org", &[], &[]), "a.db.example.org", false),
            (("*.example.org", &[], &[]), "example.org", false),
            (("d*.example.org", &[], &[]), "db.example.org", false),
            (("*", &[], &[]), "db", false),
            // A DNS name makes the common name void.
            (("db.example.org", &["alt.example.org"], &[]), "db.example.org", false),
            (("db.example.org", &["alt.example.org"], &[]), "alt.example.org", true),
            (("x", &["a.example.org", "b.example.org"], &[]), "b.example.org", true),
            // An address does not, for a host with a name.
            (("db.example.org", &[], &["192.0.2.1"]), "db.example.org", true),
            (("x", &[], &["192.0.2.1"]), "192.0.2.1", true),
            (("x", &[], &["192.0.2.1"]), "192.0.2.2", false),
            (("x", &[], &["2001:db8::1"]), "2001:0db8::1", true),
            (("192.0.2.1", &[], &[]), "192.0.2.1", true),
            (("192.0.2.1", &["db"], &[]), "192.0.2.1", true),
            (("192.0.2.1", &[], &["192.0.2.9"]), "192.0.2.1", false),
            (("x", &["192.0.2.1"], &[]), "192.0.2.1", true),
            (("*.0.2.1", &[], &[]), "192.0.2.1", false),
            (("", &[], &[]), "db", false),
        ];
        for ((common_name, dns, addresses), host, fits) in cases {
            let result = check(&certificate(common_name, dns, addresses), host);
            assert_eq!(
                result.is_ok(),
                *fits,
                "{common_name:?} {dns:?} {addresses:?} for {host}: {result:?}"
            );
        }
    }

    #[test]
    fn a_misfit_says_what_the_certificate_names() {
        let misfit = check(&certificate("x", &["a", "b"], &[]), "h").unwrap_err();
        assert_eq!(
            misfit.to_string(),
            "the server's certificate is for `a`, `b` and not for `h`"
        );
        assert_eq!(check(b"rubbish", "h"), Err(Misfit::Unreadable));
    }
}
