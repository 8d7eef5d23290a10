/**
 * Processes that tests start write plain text, whatever the environment of the tests asks for: a terminal, a build service
 * (`CI`) or a person (`FORCE_COLOR`) would have them write colours, which no test is about.
 */
for (const name of ["FORCE_COLOR", "CLICOLOR_FORCE"]) delete process.env[name];
process.env.NO_COLOR = "1";
