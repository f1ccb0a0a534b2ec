//! A broker of a test's own, for what the shared one can't show: SSL and SASL, its own death, a network between.
use super::certificates::Certificates;
use super::{eventually, free_port, signal};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub(crate) struct KafkaServer {
    pub(crate) port: u16,
    pub(crate) home: TempDir,
    /// The listener of its operator, where it has one of its own.
    internal: u16,
    child: Option<Child>,
}

/// What every such broker has, but for its listeners.
const COMMON: &str = "offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\ntransaction.state.log.replication.factor=1\n\
                      transaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\nshare.coordinator.state.topic.replication.factor=1\n\
                      share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=2000\n\
                      auto.create.topics.enable=false\nmessage.max.bytes=33554432\nlog.cleaner.backoff.ms=200\nlog.initial.task.delay.ms=100\n";

impl KafkaServer {
    /// Its clients' listener is SASL_SSL with PLAIN; one user.
    pub(crate) fn secured(certificates: &Certificates, user: &str, password: &str) -> Self {
        Self::secured_with(certificates, user, password, "")
    }

    /// The same, and its user may do only what [`Self::acl`] allows.
    pub(crate) fn guarded(certificates: &Certificates, user: &str, password: &str) -> Self {
        let authorizer = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n";
        Self::secured_with(certificates, user, password, authorizer)
    }

    /// Changes what its users may do, as by `--add --allow-principal User:u --operation Read --topic t`.
    pub(crate) fn acl(&self, arguments: &str) {
        let at = format!("127.0.0.1:{}", self.internal);
        let output = java().args(["org.apache.kafka.tools.AclCommand", "--force", "--bootstrap-server", &at]).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }

    /// Where its operator's clients connect, without security.
    pub(crate) fn operator(&self) -> rdkafka::ClientConfig {
        let mut client = rdkafka::ClientConfig::new();
        client.set("bootstrap.servers", format!("127.0.0.1:{}", self.internal));
        client
    }

    fn secured_with(certificates: &Certificates, user: &str, password: &str, more: &str) -> Self {
        let (port, internal) = (free_port(), free_port());
        let read = |p: &Path| std::fs::read_to_string(p).unwrap();
        let home = tempfile::tempdir().unwrap();
        let keystore = home.path().join("server.pem");
        std::fs::write(&keystore, format!("{}{}", read(&certificates.key), read(&certificates.cert))).unwrap();
        let listeners = format!(
            "listeners=SASL_SSL://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{internal},CONTROLLER://127.0.0.1:CONTROLLER_PORT\n\
             advertised.listeners=SASL_SSL://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{internal}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             ssl.keystore.type=PEM\nssl.keystore.location={}\nsasl.enabled.mechanisms=PLAIN\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";\n{more}",
            keystore.display()
        );
        let mut server = Self::start(home, port, &listeners);
        server.internal = internal;
        server
    }

    /// Without security. Each of `doors` is one more listener: the port of its own, and the one at which clients are told
    /// to find it.
    pub(crate) fn plain(doors: &[(u16, u16)]) -> Self {
        let port = free_port();
        let (mut listeners, mut advertised) = (format!("PLAINTEXT://127.0.0.1:{port}"), format!("PLAINTEXT://127.0.0.1:{port}"));
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for (n, (own, told)) in doors.iter().enumerate() {
            listeners += &format!(",DOOR{n}://127.0.0.1:{own}");
            advertised += &format!(",DOOR{n}://127.0.0.1:{told}");
            protocols += &format!(",DOOR{n}:PLAINTEXT");
        }
        let listeners = format!(
            "listeners={listeners},CONTROLLER://127.0.0.1:CONTROLLER_PORT\nadvertised.listeners={advertised}\n\
             inter.broker.listener.name=PLAINTEXT\nlistener.security.protocol.map={protocols}\n"
        );
        Self::start(tempfile::tempdir().unwrap(), port, &listeners)
    }

    fn start(home: TempDir, port: u16, listeners: &str) -> Self {
        let controller = free_port();
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
             {}log.dirs={}\n{COMMON}",
            listeners.replace("CONTROLLER_PORT", &controller.to_string()),
            home.path().join("log").display()
        );
        let file = home.path().join("server.properties");
        std::fs::write(&file, properties).unwrap();
        let formatted = java().args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"]).arg(&file).output().unwrap();
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let mut server = Self { port, home, internal: port, child: None };
        server.run();
        server
    }

    /// Starts it (again).
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::create(self.home.path().join("out")).unwrap();
        let file = self.home.path().join("server.properties");
        self.child = Some(java().arg("kafka.Kafka").arg(file).stdout(log).stderr(Stdio::null()).spawn().unwrap());
        eventually("the broker listens", 180, || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Ends it as its operator would: its logs are closed, and not looked through at the next start.
    pub(crate) fn stop(&mut self) {
        signal(self.pid(), "TERM");
        let _ = self.child.take().unwrap().wait();
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn java() -> Command {
    let jars = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/testbed/kafka/*");
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-cp"]).arg(jars);
    java
}
