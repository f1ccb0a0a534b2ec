//! A certificate authority and a server's certificate, made by the test that needs them.
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};

/// PEM files in a folder.
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    /// For 127.0.0.1 and localhost.
    pub(crate) fn make(folder: &Path) -> Self {
        Self::make_for(folder, &["localhost", "127.0.0.1"], (2020, 2100))
    }

    /// For these names, from the beginning of one year to that of another.
    pub(crate) fn make_for(folder: &Path, names: &[&str], (from, to): (i32, i32)) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca_params.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
        let ca_cert = ca_params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca_params, ca_key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        let cert = params.signed_by(&key, &issuer).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Self { ca: write("ca.pem", ca_cert.pem()), cert: write("cert.pem", cert.pem()), key: write("key.pem", key.serialize_pem()) }
    }

    /// The properties by which a client of [`KafkaServer::secured`](super::kafka_server::KafkaServer::secured) is this user.
    pub(crate) fn sasl_ssl<'a>(&'a self, user: &'a str, password: &'a str) -> [(&'a str, &'a str); 5] {
        [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", user),
            ("sasl.password", password),
            ("ssl.ca.location", self.ca.to_str().unwrap()),
        ]
    }
}
