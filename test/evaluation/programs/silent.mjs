// Stands for a process of the evaluation that is busy and hears nothing.
process.on("message", () => {});
process.on("SIGTERM", () => {});
