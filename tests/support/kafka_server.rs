//! A broker of a test's own, for what the shared one can't show: SSL and SASL, its own death, a network between.
use super::certificates::Certificates;
use super::process::{self, Process};
use super::{eventually, free_port, signal};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub(crate) struct KafkaServer {
    pub(crate) port: u16,
    pub(crate) home: TempDir,
    /// The port of the listener without security, if it has one beside the other.
    inner: u16,
    child: Option<Process>,
}

/// What every such broker has, but for its listeners.
const COMMON: &str = "offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\ntransaction.state.log.replication.factor=1\n\
                      transaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\nshare.coordinator.state.topic.replication.factor=1\n\
                      share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=2000\n\
                      auto.create.topics.enable=false\nmessage.max.bytes=33554432\nlog.cleaner.backoff.ms=200\nlog.retention.hours=-1\nlog.initial.task.delay.ms=100\n";

/// The properties of the user `bridge` of [`KafkaServer::guarded_by_password`].
pub(crate) fn by_password(password: &str) -> [(&'static str, &str); 4] {
    [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN"), ("sasl.username", "bridge"), ("sasl.password", password)]
}

impl KafkaServer {
    /// Its clients' listener is SASL_SSL with PLAIN; one user.
    pub(crate) fn secured(certificates: &Certificates, user: &str, password: &str) -> Self {
        let (port, inner) = (free_port(), free_port());
        let read = |p: &Path| std::fs::read_to_string(p).unwrap();
        let home = tempfile::tempdir().unwrap();
        let keystore = home.path().join("server.pem");
        std::fs::write(&keystore, format!("{}{}", read(&certificates.key), read(&certificates.cert))).unwrap();
        let listeners = format!(
            "listeners=SASL_SSL://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{inner},CONTROLLER://127.0.0.1:CONTROLLER_PORT\n\
             advertised.listeners=SASL_SSL://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{inner}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             ssl.keystore.type=PEM\nssl.keystore.location={}\nsasl.enabled.mechanisms=PLAIN\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";\n",
            keystore.display()
        );
        let mut server = Self::start(home, port, &listeners);
        server.inner = inner;
        server
    }

    /// With an authorizer: the user `bridge` comes by SASL_PLAINTEXT and may do what [`Self::acl`] says, whoever comes by the second
    /// listener ([`Self::inner`]) may do anything. `sasl` is what the mechanism needs: its name, its module, the module's options.
    pub(crate) fn guarded(sasl: (&str, &str, &str)) -> Self {
        let (port, inner) = (free_port(), free_port());
        let (mechanism, module, options) = sasl;
        let listeners = format!(
            "listeners=SASL_PLAINTEXT://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{inner},CONTROLLER://127.0.0.1:CONTROLLER_PORT\n\
             advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{inner}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             sasl.enabled.mechanisms={mechanism}\n\
             listener.name.sasl_plaintext.{}.sasl.jaas.config={module} required {options};\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n",
            mechanism.to_lowercase()
        );
        let mut server = Self::start(tempfile::tempdir().unwrap(), port, &listeners);
        server.inner = inner;
        server
    }

    /// [`Self::guarded`] by a password.
    pub(crate) fn guarded_by_password(password: &str) -> Self {
        let options = format!("user_bridge=\"{password}\"");
        Self::guarded(("PLAIN", "org.apache.kafka.common.security.plain.PlainLoginModule", &options))
    }

    /// A client of the second listener.
    pub(crate) fn inner(&self) -> rdkafka::ClientConfig {
        let mut client = rdkafka::ClientConfig::new();
        client.set("bootstrap.servers", format!("127.0.0.1:{}", self.inner));
        client
    }

    /// Changes what the user `bridge` may do: words of kafka-acls, such as `--add --allow-principal User:bridge --operation Read`.
    pub(crate) fn acl(&self, words: &str) {
        let server = format!("127.0.0.1:{}", self.inner);
        let mut command = java();
        command.args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server", &server, "--force"]).args(words.split(' '));
        let done = process::output(&mut command);
        assert!(done.status.success(), "{words}: {}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
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

    /// Without security, and with what brokers say of groups by default: what most users get.
    pub(crate) fn with_default_groups() -> Self {
        let port = free_port();
        let settings = format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:CONTROLLER_PORT\nadvertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             inter.broker.listener.name=PLAINTEXT\nlistener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             group.initial.rebalance.delay.ms=3000\ngroup.min.session.timeout.ms=6000\n"
        );
        Self::start(tempfile::tempdir().unwrap(), port, &settings)
    }

    /// `settings`: its listeners, and what it has in place of [`COMMON`].
    fn start(home: TempDir, port: u16, settings: &str) -> Self {
        let controller = free_port();
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
             {COMMON}{}log.dirs={}\n",
            settings.replace("CONTROLLER_PORT", &controller.to_string()),
            home.path().join("log").display()
        );
        let file = home.path().join("server.properties");
        std::fs::write(&file, properties).unwrap();
        let mut format = java();
        format.args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"]).arg(&file);
        let formatted = process::output(&mut format);
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let mut server = Self { port, home, inner: port, child: None };
        server.run();
        server
    }

    /// Starts it (again).
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::create(self.home.path().join("out")).unwrap();
        let file = self.home.path().join("server.properties");
        self.child = Some(Process::start(java().arg("kafka.Kafka").arg(file).stdout(log).stderr(Stdio::null())));
        eventually("the broker listens", 120, || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
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
        self.child.take().unwrap().ended();
    }

    pub(crate) fn kill(&mut self) {
        self.child = None;
    }
}

fn java() -> Command {
    let jars = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/testbed/kafka/*");
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-cp"]).arg(jars);
    java
}
