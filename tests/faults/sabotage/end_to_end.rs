//! Workers whose scripts fail by chance, under everything that the model does to them besides.

use crate::model;

/// With which chance in 10,000 a script that a worker runs has one of its writing commands refused.
const OF_10_000: u32 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_command_fails_jobs_end_as_the_model_says() {
    let drawn = std::env::var("FAULTS_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    tokio::join!(model::play(11, OF_10_000), model::play(12, OF_10_000), model::play(drawn, OF_10_000));
}
