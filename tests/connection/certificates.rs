//! Certificates made for the test: an authority, servers, a client, and two odd ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SigningKey};
use x509_cert::der::asn1::BitString;
use x509_cert::der::{Decode, Encode, EncodePem, pem::LineEnding};

/// The serial number of the main server's certificate, by which it is revoked.
const SERVER: u64 = 1;

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// Writes all certificates and keys into `dir`; the names are what the cases use.
pub fn write_all(dir: &Path) {
    let mut authority = params("test authority", &[]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    write(dir, "ca.crt", &authority.pem(), 0o644);

    for (serial, name, common_name, names) in [
        (SERVER, "server", "irrelevant", &["localhost", "*.example.org"][..]),
        // No alternative names: libpq looks at the common name then.
        (2, "named", "localhost", &[]),
        (3, "client", "cert_user", &[]),
        (4, "other", "somebody", &[]),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut certificate = params(common_name, names);
        certificate.serial_number = Some(rcgen::SerialNumber::from(serial));
        let signed = certificate.signed_by(&key, &authority).unwrap();
        write(dir, &format!("{name}.crt"), &signed.pem(), 0o644);
        write(dir, &format!("{name}.key"), &key.serialize_pem(), 0o600);
    }

    // What `openssl req -x509` makes: signed by itself, and an authority at that.
    let mut alone = params("localhost", &["localhost"]);
    alone.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let signed = alone.self_signed(&key).unwrap();
    write(dir, "alone.crt", &signed.pem(), 0o644);
    write(dir, "alone.key", &key.serialize_pem(), 0o600);

    // What `openssl x509 -req` makes without an extension file: X.509 version 1.
    let mut old = x509_cert::Certificate::from_der(signed.der()).unwrap();
    old.tbs_certificate.version = x509_cert::Version::V1;
    old.tbs_certificate.extensions = None;
    let signature = key.sign(&old.tbs_certificate.to_der().unwrap()).unwrap();
    old.signature = BitString::from_bytes(&signature).unwrap();
    write(dir, "old.crt", &old.to_pem(LineEnding::LF).unwrap(), 0o644);
    write(dir, "old.key", &key.serialize_pem(), 0o600);

    let revoke = |serial: u64| {
        let day = |offset: i32| rcgen::date_time_ymd(2026 + offset, 1, 1);
        let revoked = rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from(serial),
            revocation_time: day(0),
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: day(0),
            next_update: day(70),
            crl_number: rcgen::SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&authority).unwrap().pem().unwrap()
    };
    write(dir, "revoked.crl", &revoke(SERVER), 0o644);
    write(dir, "unrelated.crl", &revoke(999), 0o644);
}

fn write(dir: &Path, name: &str, text: &str, mode: u32) {
    let file = dir.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
}
