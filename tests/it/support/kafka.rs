//! A real Apache Kafka broker: one JVM, KRaft, one node, on 127.0.0.1.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use daybook::journal::Position;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{cache, eventually, free_port};

/// The version of the broker; `tests/run` has the same.
const VERSION: &str = "4.3.1";
/// A JVM on a busy machine of two cores.
const START: Duration = Duration::from_secs(120);

/// Longest that records may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// The user that the SASL listener knows, by PLAIN and by SCRAM.
pub(crate) const USER: &str = "daybook";
pub(crate) const PASSWORD: &str = "planted-kafka-password-81f3";

/// A broker of a test's own, killed when dropped.
pub(crate) struct Broker {
    /// Plain listener.
    pub(crate) address: String,
    /// SASL over TLS.
    pub(crate) sasl: String,
    dir: TempDir,
    process: Option<Jvm>,
}

/// A JVM that dies with us: a shell kills it when its stdin, our pipe, is closed.
struct Jvm {
    shell: Child,
    /// Apart from `shell`: waiting for a child closes its stdin.
    _stdin: ChildStdin,
    pid: Pid,
}

/// A record as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Vec<u8>,
}

/// The broker that tests share: `DAYBOOK_TEST_KAFKA`, or one started by the first who asks.
pub(crate) fn shared() -> &'static str {
    static SHARED: OnceLock<(String, Option<Broker>)> = OnceLock::new();
    let start = || match std::env::var("DAYBOOK_TEST_KAFKA") {
        Ok(address) => (address, None),
        Err(_) => {
            let broker = Broker::start();
            (broker.address.clone(), Some(broker))
        }
    };
    &SHARED.get_or_init(start).0
}

// === impl Broker ===

impl Broker {
    /// A new broker with empty storage, ready to be used.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the broker");
        let [plain, controller, sasl] = [free_port(), free_port(), free_port()];
        write_settings(dir.path(), plain, controller, sasl);
        format(dir.path());
        let mut broker =
            Self { address: format!("127.0.0.1:{plain}"), sasl: format!("localhost:{sasl}"), dir, process: None };
        broker.run();
        broker
    }

    /// Runs it (again), and waits until it answers.
    pub(crate) fn run(&mut self) {
        let mut java = java();
        java.args(["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "kafka.Kafka"]);
        java.arg(self.dir.path().join("server.properties"));
        self.process = Some(Jvm::start(&java, &self.dir.path().join("broker.log")));
        let deadline = Instant::now() + START;
        while metadata(&self.address).is_none() {
            let log = || fs::read_to_string(self.dir.path().join("broker.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the broker does not answer; its log:\n{}", log());
        }
    }

    /// Ends it as an operator does, and waits until it has gone.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Ends it as the kernel does when memory is short.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// The certificate that signed the SASL listener's.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut jvm) = self.process.take() {
            let _ = kill_process(jvm.pid, signal);
            let _ = jvm.shell.wait();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

// === impl Jvm ===

impl Jvm {
    fn start(java: &Command, log: &Path) -> Self {
        let script = "exec 3<&0; log=$1; shift; \"$@\" </dev/null >>\"$log\" 2>&1 & java=$!; echo $java; \
                      { read -r _ <&3; kill -9 $java; } >/dev/null 2>&1 & reader=$!; wait $java; kill $reader";
        let mut shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(log)
            .arg(java.get_program())
            .args(java.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("the pid");
        let pid = line.trim().parse().ok().and_then(Pid::from_raw).expect("a pid");
        let stdin = shell.stdin.take().expect("piped");
        Self { shell, _stdin: stdin, pid }
    }
}

/// Creates a topic and waits until it is there.
pub(crate) fn create_topic(brokers: &str, name: &str, partitions: i32, options: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("an admin client");
    let topic = options
        .iter()
        .fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |topic, (key, value)| topic.set(key, value));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let created = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).expect("an answer");
    created.into_iter().for_each(|result| drop(result.expect("the topic is created")));
}

/// Everything in a topic from its beginning, read until `enough` says so; partitions in no order of their own.
pub(crate) fn read(
    brokers: &str,
    topic: &str,
    patience: Duration,
    mut enough: impl FnMut(&[Received]) -> bool,
) -> Vec<Received> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("message.max.bytes", "16000000")
        .create()
        .expect("a consumer");
    let partitions = eventually("the topic has partitions", Duration::from_secs(20), || {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
        let partitions = metadata.topics().first()?.partitions().len();
        (partitions > 0).then_some(partitions)
    });
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        let partition = i32::try_from(partition).expect("few partitions");
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&assignment).expect("assigned");
    let mut received = Vec::new();
    let deadline = Instant::now() + patience;
    while !enough(&received) && Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
            received.push(Received::from(&message));
        }
    }
    received
}

/// Reads until as many different records are there as the journal holds, and a little longer for duplicates.
pub(crate) fn consume(brokers: &str, topic: &str, expected: usize) -> Vec<Received> {
    let (mut places, mut looked_at, mut complete_at) = (BTreeSet::new(), 0, None);
    read(brokers, topic, PATIENCE, |received| {
        places.extend(received[looked_at..].iter().map(Received::place));
        looked_at = received.len();
        if places.len() >= expected {
            complete_at.get_or_insert_with(Instant::now);
        }
        complete_at.is_some_and(|at: Instant| at.elapsed() > Duration::from_millis(500))
    })
}

/// The records by place, in the order of their first arrival: each exactly as in the journal, none missing, none out
/// of order. Later copies of a record must equal the first.
pub(crate) fn assert_complete(received: &[Received], journaled: &[(Position, Vec<u8>)]) {
    let mut first = BTreeMap::new();
    let mut order = Vec::new();
    for one in received {
        let (epoch, seq) = one.place();
        let place = Position { epoch, seq };
        let known = first.entry(place).or_insert_with(|| {
            order.push(place);
            one.payload.clone()
        });
        assert_eq!(known, &one.payload, "a copy of {place} differs from it");
    }
    let expected: Vec<_> = journaled.iter().map(|(place, _)| *place).collect();
    assert_eq!(order.len(), expected.len(), "as many records arrived as the journal holds");
    assert!(
        order == expected,
        "they arrived in the journal's order; the first that did not: {:?}",
        order.iter().zip(&expected).find(|(a, b)| a != b)
    );
    for (place, payload) in journaled {
        assert!(first[place] == *payload, "{place} arrived as it stands in the journal");
    }
}

impl Received {
    fn from(message: &impl Message) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            partition: message.partition(),
            key: message.key().map(text),
            headers: headers.map(|h| (h.key.to_owned(), text(h.value.unwrap_or_default()))).collect(),
            payload: message.payload().unwrap_or_default().to_vec(),
        }
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `daybook-epoch` and `daybook-seq`.
    pub(crate) fn place(&self) -> (u32, u64) {
        let number = |name| self.header(name).and_then(|n| n.parse::<u64>().ok()).expect("both headers");
        (u32::try_from(number("daybook-epoch")).expect("an epoch"), number("daybook-seq"))
    }
}

fn metadata(brokers: &str) -> Option<()> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    client.fetch_metadata(None, Duration::from_secs(2)).ok().filter(|m| !m.brokers().is_empty()).map(drop)
}

fn java() -> Command {
    let libs = cache().join(format!("kafka-{VERSION}")).join("libs");
    assert!(libs.is_dir(), "{} is missing: run `tests/run` once, it brings Kafka's jars", libs.display());
    let mut java = Command::new("java");
    java.arg("-cp").arg(libs.join("*"));
    java
}

fn format(dir: &Path) {
    let mut java = java();
    java.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]);
    java.args(["-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(dir.join("server.properties"));
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        java.arg("--add-scram").arg(format!("{mechanism}=[name={USER},password={PASSWORD}]"));
    }
    let output = java.output().expect("java runs: `tests/run` says what is missing");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the storage is formatted: {} {log}", String::from_utf8_lossy(&output.stdout));
}

fn write_settings(dir: &Path, plain: u16, controller: u16, sasl: u16) {
    let authority = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    // Else both have rcgen's default name, and the leaf looks self-signed.
    params.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&authority).expect("a certificate");
    fs::write(dir.join("ca.pem"), ca.pem()).expect("written");
    let key = rcgen::KeyPair::generate().expect("a key");
    let issuer = rcgen::Issuer::new(params, authority);
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).and_then(|p| p.signed_by(&key, &issuer)).expect("signed");
    // Kafka wants key and chain in one file.
    fs::write(dir.join("broker.pem"), key.serialize_pem() + &certificate.pem()).expect("written");
    let module = "org.apache.kafka.common.security";
    let settings = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL://localhost:{sasl}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL\n\
         listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         listener.name.sasl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
         listener.name.sasl.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
         listener.name.sasl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
         listener.name.sasl.ssl.keystore.type=PEM\n\
         listener.name.sasl.ssl.keystore.location={dir}/broker.pem\n\
         log.dirs={dir}/data\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         log.cleaner.enable=false\n",
        dir = dir.display()
    );
    fs::write(dir.join("server.properties"), settings).expect("written");
}
