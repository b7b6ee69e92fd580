//! The plugin: edit and save this while the host runs.

use acme_types::{Job, Worker};

#[derive(Default)]
struct MyWorker;

#[hotswap_sdk::plugin]
impl Worker for MyWorker {
    fn work(&self, job: &Job) -> Result<String, String> {
        if job.text.is_empty() {
            return Err("there is nothing to do".to_owned());
        }
        Ok(format!("done: {}", job.text.to_uppercase()))
    }
}

#[cfg(test)]
mod tests {
    use hotswap_core::Hotswap;

    use super::*;

    fn job(text: &str) -> Job {
        Job {
            number: 1,
            text: text.to_owned(),
        }
    }

    #[test]
    fn an_empty_job_is_refused() {
        let refused = MyWorker.work(&job("")).unwrap_err();
        assert_eq!(refused, "there is nothing to do");
    }

    /// Called as a host calls it, but linked in: the job and the answer cross the interface.
    #[test]
    fn a_job_is_done() {
        let worker = Hotswap::<dyn Worker>::builtin(MyWorker).unwrap();
        let done = worker.call(|it| it.work(&job("tea"))).unwrap().unwrap();
        assert!(done.ends_with("TEA"), "{done}");
    }
}
