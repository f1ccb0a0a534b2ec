//! TLS to Redis as `redis.ca_file`, `redis.cert_file` and `redis.key_file` say.
use super::Redis;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A client's settings. The files are read anew each time, so that a renewed certificate is taken up.
///
/// # Errors
/// The key of the configuration, and what is wrong.
pub fn client(redis: &Redis) -> Result<ClientConfig, (&'static str, String)> {
    let builder = ClientConfig::builder().with_root_certificates(roots(&redis.ca_file)?);
    if redis.cert_file.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates("redis.cert_file", &redis.cert_file)?;
    let file = &redis.key_file;
    let key = PrivateKeyDer::from_pem_file(file).map_err(|e| ("redis.key_file", format!("{file:?} has no private key in PEM: {e}")))?;
    builder.with_client_auth_cert(chain, key).map_err(|e| ("redis.key_file", format!("{file:?} is no key for cert_file: {e}")))
}

/// Whom to trust.
fn roots(file: &str) -> Result<RootCertStore, (&'static str, String)> {
    const KEY: &str = "redis.ca_file";
    let mut roots = RootCertStore::empty();
    if file.is_empty() {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            return Err((KEY, "not set, and this system has no certificate authorities".into()));
        }
    } else {
        for certificate in certificates(KEY, file)? {
            roots.add(certificate).map_err(|e| (KEY, format!("{file:?}: {e}")))?;
        }
    }
    Ok(roots)
}

fn certificates(key: &'static str, file: &str) -> Result<Vec<CertificateDer<'static>>, (&'static str, String)> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match found {
        Ok(found) if found.is_empty() => Err((key, format!("{file:?} has no certificate in PEM"))),
        Ok(found) => Ok(found),
        Err(e) => Err((key, format!("{file:?}: {e}"))),
    }
}
