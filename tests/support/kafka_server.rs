//! A broker of a test's own, for what the shared one can't show: SSL and SASL.
use super::certificates::Certificates;
use super::{eventually, free_port};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub(crate) struct KafkaServer {
    pub(crate) port: u16,
    child: Child,
    _home: TempDir,
}

impl KafkaServer {
    /// Its clients' listener is SASL_SSL with PLAIN; one user.
    pub(crate) fn secured(certificates: &Certificates, user: &str, password: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (port, internal, controller) = (free_port(), free_port(), free_port());
        let read = |p: &Path| std::fs::read_to_string(p).unwrap();
        let keystore = home.path().join("server.pem");
        std::fs::write(&keystore, format!("{}{}", read(&certificates.key), read(&certificates.cert))).unwrap();
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=SASL_SSL://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=SASL_SSL://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{internal}\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             ssl.keystore.type=PEM\nssl.keystore.location={}\nsasl.enabled.mechanisms=PLAIN\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";\n\
             log.dirs={}\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=2000\n",
            keystore.display(),
            home.path().join("log").display()
        );
        let file = home.path().join("server.properties");
        std::fs::write(&file, properties).unwrap();
        let formatted = java().args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"]).arg(&file).output().unwrap();
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let child = java().arg("kafka.Kafka").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { port, child, _home: home };
        eventually("the secured broker listens", 60, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn java() -> Command {
    let jars = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/testbed/kafka/*");
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-cp"]).arg(jars);
    java
}
