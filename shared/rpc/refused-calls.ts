import { grpc } from "./service.ts";

/** What a call may end with that nobody refused. */
const NO_REFUSAL: readonly (grpc.status | null | undefined)[] = [grpc.status.OK, grpc.status.CANCELLED];

/**
 * Tells of each call that ends with an error, by the code in its details, "" where they have none. What the library itself
 * cannot take apart ends before it comes here.
 */
export const tellingRefusals =
  (tell: (code: string) => void): grpc.ServerInterceptor =>
  (_method, call) =>
    new grpc.ServerInterceptingCall(call, {
      sendStatus: (status, next) => {
        if (!NO_REFUSAL.includes(status.code)) tell(/LS_[A-Z_]+/.exec(status.details ?? "")?.[0] ?? "");
        next(status);
      },
    });
