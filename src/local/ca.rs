//! The certificate authority of a local world: made at the first start, kept in the data directory, trusted by nobody who
//! does not ask for it.
//!
//! Azure's clients send tokens over https only, so a demo needs a certificate for its address. The authority stays as it
//! is, so that who trusts it once need not do so again; the server's certificate is made anew at each start.

use std::{
    fs, io,
    io::Write,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

/// File of the authority's certificate in the data directory: what clients are told to trust.
pub const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";
const CERTIFICATE_FILE: &str = "server.pem";
const KEY_FILE: &str = "server-key.pem";

/// Years that the authority is valid.
const CA_YEARS: i32 = 10;
/// Days that a server's certificate is valid: what strict clients take at most (CA/Browser Forum baseline requirements).
const SERVER_DAYS: i32 = 397;

/// Where certificates and keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The file system said no.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A key does not read, or a certificate cannot be made.
    #[error("cannot make certificates with the key in {path}: {source}; remove it and another authority is made")]
    Certificate {
        /// The authority's key.
        path: PathBuf,
        /// What is wrong.
        source: rcgen::Error,
    },
}

/// Makes what is missing in `data_dir`, and a certificate for `localhost`, the loopback addresses and `address`.
///
/// # Errors
/// When the directory cannot be written to, or holds a key that does not read.
pub fn certificates(data_dir: &Path, address: IpAddr, now: Timestamp) -> Result<Certificates, CaError> {
    let file = |name: &str| data_dir.join(name);
    fs::create_dir_all(data_dir).map_err(failed("create", data_dir))?;
    let key_file = file(CA_KEY_FILE);
    let wrong = |source| CaError::Certificate { path: key_file.clone(), source };
    let today = now.to_zoned(TimeZone::UTC).date();

    let known = match fs::read_to_string(&key_file) {
        Ok(pem) if file(CA_FILE).exists() => Some(KeyPair::from_pem(&pem).map_err(wrong)?),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("read", &key_file)(error)),
    };
    let authority = authority(today);
    let key = match known {
        Some(key) => key,
        None => {
            let key = KeyPair::generate().map_err(wrong)?;
            let certificate = authority.self_signed(&key).map_err(wrong)?;
            write(&key_file, &key.serialize_pem(), 0o600)?;
            write(&file(CA_FILE), &certificate.pem(), 0o644)?;
            key
        }
    };
    let issuer = Issuer::new(authority, key);
    let server_key = KeyPair::generate().map_err(wrong)?;
    let certificate = server(address, today).map_err(wrong)?.signed_by(&server_key, &issuer).map_err(wrong)?;
    write(&file(KEY_FILE), &server_key.serialize_pem(), 0o600)?;
    write(&file(CERTIFICATE_FILE), &certificate.pem(), 0o644)?;
    Ok(Certificates { ca: file(CA_FILE), certificate: file(CERTIFICATE_FILE), key: file(KEY_FILE) })
}

fn authority(today: Date) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Fleet Manager local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let last = today.checked_add(CA_YEARS.years()).unwrap_or(today);
    valid(&mut params, yesterday(today), last);
    params
}

fn server(address: IpAddr, today: Date) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Fleet Manager");
    params.subject_alt_names = vec![SanType::DnsName("localhost".try_into()?)];
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    let own = Some(address).filter(|own| !loopback.contains(own) && !own.is_unspecified());
    params.subject_alt_names.extend(loopback.into_iter().chain(own).map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let last = today.checked_add(SERVER_DAYS.days()).unwrap_or(today);
    valid(&mut params, yesterday(today), last);
    Ok(params)
}

/// Clocks differ.
fn yesterday(today: Date) -> Date {
    today.yesterday().unwrap_or(today)
}

/// Valid from the one day to the other.
fn valid(params: &mut CertificateParams, first: Date, last: Date) {
    let moment = |date: Date| date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
    (params.not_before, params.not_after) = (moment(first), moment(last));
}

/// Writes a file as a whole: nobody reads half of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let fresh = path.with_extension("new");
    let io = |error| failed("write", path)(error);
    drop(fs::remove_file(&fresh));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&fresh, path).map_err(io)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |source| CaError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_authority_stays_and_keys_are_private() {
        let home = tempfile::tempdir().unwrap();
        let address = IpAddr::from([10, 0, 0, 7]);
        let first = certificates(home.path(), address, Timestamp::now()).unwrap();
        let (ca, server) = (fs::read(&first.ca).unwrap(), fs::read(&first.certificate).unwrap());
        let second = certificates(home.path(), address, Timestamp::now()).unwrap();
        assert_eq!(first, second);
        assert_eq!(fs::read(&second.ca).unwrap(), ca);
        assert_ne!(fs::read(&second.certificate).unwrap(), server, "made anew at each start");
        for key in [home.path().join(CA_KEY_FILE), second.key] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_that_does_not_read_is_named() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(CA_FILE), "x").unwrap();
        fs::write(home.path().join(CA_KEY_FILE), "garbage").unwrap();
        let error = certificates(home.path(), IpAddr::from([127, 0, 0, 1]), Timestamp::now()).unwrap_err();
        assert!(error.to_string().contains(CA_KEY_FILE), "{error}");
    }
}
