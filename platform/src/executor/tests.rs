use super::*;
use crate::device::ManualClock;
use crate::host::SimulatedHost;

fn simulate<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Handle) -> F) -> T {
    let clock = Rc::new(ManualClock::default());
    let executor = Executor::new(clock.clone());
    let main = main(executor.handle());
    executor.run(&SimulatedHost::new(clock), main).expect("main does not panic")
}

#[test]
fn tasks_run_join_and_return() {
    let sum = simulate(|handle| async move {
        let tasks: Vec<_> = (1..=10).map(|n| handle.spawn(async move { n })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 55);
}

#[test]
fn a_panic_is_caught_and_counted_and_the_rest_goes_on() {
    simulate(|handle| async move {
        let bad = handle.spawn(async { panic!("for the test") });
        let good = handle.spawn(async { 7 });
        assert_eq!(bad.await, Err::<(), _>(JoinError::Panicked));
        assert_eq!(good.await, Ok(7));
        assert_eq!(handle.panics(), 1);
    });
}

#[test]
fn cancelling_drops_the_future() {
    simulate(|handle| async move {
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        let task = handle.spawn(async move {
            let _inside = inside;
            core::future::pending::<()>().await;
        });
        handle.yield_now().await;
        assert_eq!(Rc::strong_count(&held), 2);
        task.cancel();
        assert_eq!(Rc::strong_count(&held), 1);
        assert_eq!(task.await, Err(JoinError::Cancelled));
        assert_eq!(handle.tasks(), 1);
    });
}

#[test]
fn a_task_may_cancel_itself() {
    simulate(|handle| async move {
        let slot: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let mine = Rc::clone(&slot);
        let task = handle.spawn(async move {
            mine.borrow().as_ref().expect("stored before the first poll").cancel();
            core::future::pending::<()>().await;
        });
        *slot.borrow_mut() = Some(task);
        handle.yield_now().await;
        handle.yield_now().await;
        assert!(slot.borrow().as_ref().unwrap().is_finished());
    });
}

#[test]
fn sleeps_end_in_order_of_their_deadlines() {
    simulate(|handle| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [300, 20, 7_000, 100]
            .map(|ms| {
                let (handle, order) = (handle.clone(), Rc::clone(&order));
                handle.clone().spawn(async move {
                    handle.sleep(Duration::from_millis(ms)).await;
                    assert!(handle.now() >= Instant::START + Duration::from_millis(ms));
                    order.borrow_mut().push(ms);
                })
            })
            .into();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), [20, 100, 300, 7_000]);
    });
}

#[test]
fn timeouts_elapse_or_do_not() {
    simulate(|handle| async move {
        let never = core::future::pending::<()>();
        assert_eq!(handle.timeout(Duration::from_secs(5), never).await, Err(Elapsed));
        assert_eq!(handle.timeout(Duration::from_secs(5), async { 3 }).await, Ok(3));
    });
}

#[test]
fn one_busy_task_does_not_starve_another() {
    simulate(|handle| async move {
        let spinner = {
            let handle = handle.clone();
            handle.clone().spawn(async move {
                loop {
                    core::future::poll_fn(|context| handle.poll_budget(context)).await;
                }
            })
        };
        for _ in 0..10 {
            handle.yield_now().await;
        }
        spinner.cancel();
    });
}
