"""Operations: sensors, schedules, jobs, alerts, user interface, services."""
