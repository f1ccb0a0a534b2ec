//! Kafka's transactions: what was aborted never shows, and markers leave no lag behind.
use crate::support::daemon::Setup;
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, kafka};

#[test]
fn aborted_records_are_not_applied_and_trailing_markers_leave_no_lag() {
    let redis = RedisServer::start();
    let topic = kafka::topic("transactions", 2);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    let producer = kafka::Transactions::new(&topic);
    producer.produce(10, true);
    producer.produce(10, false);
    producer.produce(5, true);
    let length = || redis::cmd("XLEN").arg("volatility:K").query::<i64>(&mut redis.connect()).unwrap();
    // A transaction's marker may be written after its commit is acknowledged: the log still grows then.
    let no_lag = || kafka::committed(&setup.group, &topic, 2) == kafka::ends(&topic, 2).into_iter().map(Some).collect::<Vec<_>>();
    eventually("Kafka sees no lag", 40, no_lag);
    assert_eq!(length(), 15);
    // The markers after the last record of all are nothing to begin at, nor to stumble over.
    producer.produce(3, false);
    assert_eq!(daemon.stop(), 0);
    let again = setup.start();
    producer.produce(3, true);
    eventually("Kafka sees no lag again", 40, no_lag);
    assert_eq!(length(), 18);
    drop(again);
}
